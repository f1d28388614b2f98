"""
From the listening socket to the frame: the only part of gateman that touches the network.

In the order in which a byte passes them: ``sockets``, ``acceptor``, ``preamble``, ``tls``,
``handshake`` (with ``forwarded`` and ``response``), ``engine`` (with ``surroundings``),
``heartbeat``, ``linger``. ``events`` is what they report to the rows above.
"""
