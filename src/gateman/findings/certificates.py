"""Kinds of findings about certificates and their chains. PURE."""

from . import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
