"""How long tests wait: so long that only what never happens fails, on a loaded machine too."""

TIMEOUT = 60.0
"""Seconds for one thing to happen: an answer, a start, an end."""

TEST_TIMEOUT = 150.0
"""Seconds for a whole test; pytest's own limit in ``pyproject.toml`` is above it."""
