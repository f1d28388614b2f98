"""Kinds of findings about connections that are open, and about the pages that open them. PURE."""

from . import Declaration

DECLARATIONS: tuple[Declaration, ...] = ()
