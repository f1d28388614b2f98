"""
The Centrifuge client protocol (version 2), which official SDKs in many languages speak. PURE.

Bytes and the time go in, requests to the application and bytes for the client come out.
"""
