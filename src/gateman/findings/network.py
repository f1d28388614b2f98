"""Kinds of findings about URL, name resolution, TCP and TLS versions. PURE."""

from . import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
