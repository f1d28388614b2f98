"""The HTTP answer to a handshake, and the WebSocket behind it."""
