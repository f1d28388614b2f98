"""
RFC 6455 and RFC 7692 without a socket, a loop or a clock. PURE.

Bytes and values in, values and errors out: everything here is tested by equality.
"""
