"""Kinds of findings about a service seen from inside: it, its machine, its proxy. PURE."""

from . import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
