"""What only time, size or number shows of an open WebSocket, and the page that opens it."""
