"""
What a proxy's configuration does with a URL: one reader for each kind of proxy. PURE.

The readers are tolerant: what they do not know they leave out, and where it may matter the route
says that it is not certain. A reader never raises anything but :class:`UnreadableConfiguration`.
"""
