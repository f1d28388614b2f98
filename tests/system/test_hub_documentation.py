"""``docs/hub.md`` says what there is: every verb, every count, and programs that can be run."""

import ast
import inspect
import re
from pathlib import Path

from gateman import Connection, Hub, SyncHub
from gateman.cli import _COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()

# What a service does for a hub, and nobody else has to.
NOT_FOR_USERS = {"start", "stop", "local_node", "connect"}


def public(kind: type) -> set[str]:
    """Name what a class has for its users."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_every_verb_is_there() -> None:
    """The page names all that a hub does, and a worker's connections have of it."""
    words = set(re.findall(r"[a-z_]+", PAGE))

    assert public(Hub) - NOT_FOR_USERS - {"node", "nodes", "is_connected"} <= words
    assert {"client_id", "join", "leave", "bind", "unbind"} <= words & public(Connection)


def test_nothing_else_is_there() -> None:
    """What the page calls, exists."""
    hub, connection = (
        set(re.findall(rf"\b{name}\.([a-z_]+)\b", PAGE)) for name in ("hub", "connection")
    )

    assert hub - public(Hub) == {"py"}  # The file.
    assert connection - public(Connection) == set()
    assert set(re.findall(r"^gateman ([a-z]+)", PAGE, re.MULTILINE)) - set(_COMMANDS) == set()


def test_both_kinds_of_hub_have_the_same_verbs() -> None:
    """Threads can do what an event loop can, but for what is about the event loop."""
    about_the_loop = {"connect", "start", "stop", "local_node"}
    of_a_process = {"node", "nodes", "counts", "is_connected", "on_gap", "answer_timeout"}

    assert public(Hub) - public(SyncHub) == about_the_loop | of_a_process
    assert public(SyncHub) - public(Hub) == {"close"}


def test_its_programs_are_programs() -> None:
    """Each block is Python that compiles; ``await`` is meant to be in a coroutine."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 10
    for block in blocks:
        indented = "".join(f"    {line}\n" for line in block.splitlines())
        ast.parse(f"async def program():\n{indented}")
