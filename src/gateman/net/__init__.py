"""
From a listening socket to an open WebSocket.

In the order of a connection: ``sockets``, ``acceptor`` with ``admission``, ``accepted_socket`` with
``preamble``, ``handshake``, ``websocket_protocol`` with ``send_buffer``, ``lingering_close``.
picows, aiofastnet and asyncio's event loop are each used through one adapter.
"""
