"""Protocols on a byte stream other than WebSocket: how packets are cut from it. PURE."""
