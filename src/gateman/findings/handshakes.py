"""Kinds of findings about proxies, the HTTP answer and the WebSocket handshake. PURE."""

from . import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
