"""
The hub: who is connected where, as whom, in which groups, and how to send to them.

``from gateman import hub`` gives this process's :class:`~.hub.Hub`.
"""
