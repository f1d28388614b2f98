"""
Gateways and business workers: connections in one process, the application's code in another.

So that code is reloaded, or crashes, and no client notices.
"""
