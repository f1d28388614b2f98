"""
The master: owns the listening sockets and supervises the processes that serve them.

It runs no event loop and none of the application's callbacks.
"""
