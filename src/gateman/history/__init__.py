"""
History of channels: the last messages of each, by which clients recover what they have missed.

:mod:`.base` documents what every store guarantees; each bus has one, as ``bus.history``.
"""
