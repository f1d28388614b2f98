"""
Gateways and business workers: connections in one process, application code in another.

So a reload or a crash of the code does not disconnect clients.
"""
