"""``docs/gateway.md`` tells of every callback, verb and count, and its programs can be run."""

import ast
import inspect
import re
from pathlib import Path

from gateman import BusinessWorker, Hub
from gateman.config.callbacks import BUSINESS_CLIENT_SIGNATURES, BUSINESS_SIGNATURES
from gateman.gateway.current import Current

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gateway.md").read_text()


def public(kind: type) -> set[str]:
    """Name what a class has for its users."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_every_callback_is_there() -> None:
    """With its arguments."""
    for name, arguments in (BUSINESS_SIGNATURES | BUSINESS_CLIENT_SIGNATURES).items():
        assert f"`{name}({', '.join(arguments)})`" in PAGE


def test_what_it_calls_is_there() -> None:
    """Of the hub, of the client whose event is handled, and of business workers."""
    named = {
        whose: set(re.findall(rf"\b{whose}\.([a-z_]+)\b", PAGE)) - {"py", "md"}
        for whose in ("hub", "current_client", "business")
    }

    assert named["hub"] - public(Hub) == set()
    assert named["current_client"] == public(Current)
    assert named["business"] - public(BusinessWorker) == set()


def test_every_count_is_there() -> None:
    """What ``status`` shows of gateways and business workers has a line."""
    package = ROOT / "src" / "gateman"
    places = [package / "runtime" / "callback_errors.py", *(package / "gateway").glob("*.py")]
    source = "".join(place.read_text() for place in places)
    counted = set(re.findall(r'counts\["([a-z_]+)"\]', source))
    counted |= set(re.findall(r'\("((?:events|clients)_[a-z]+)", ', source))

    assert len(counted) >= 7
    assert {name for name in counted if f"| `{name}` |" not in PAGE} == set()


def test_its_programs_are_programs() -> None:
    """Each block is Python that compiles."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        ast.parse(block)
