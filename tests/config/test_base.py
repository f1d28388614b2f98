"""What everything that is declared has, on the smallest kind of it."""

import subprocess
import sys
from typing import Any, ClassVar

import pytest

from gateman.config.base import BaseWorker, make_names_unique, outline
from gateman.errors import ConfigError
from gateman.options import Timeouts
from gateman.runtime.timer import add_timers, timers
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop


class Clerk(BaseWorker):
    """One that has a single callback."""

    signatures: ClassVar = {"on_letter": ("letter",)}


def test_defaults() -> None:
    """Nothing but a name has to be said."""
    made = vars(Clerk(name="clerk"))

    assert made == {
        "name": "clerk",
        "count": 1,
        "timeouts": Timeouts(),
        "drain_window": 10.0,
        "restart_stalled": False,
        "reloadable": True,
        "max_crashes": 10,
        "max_messages": None,
        "max_lifetime": None,
        "max_memory": None,
        "user": None,
        "group": None,
        "bus": None,
        "id": 0,
        "callbacks": {},
        "schedule": [],
        "jobs": [],
        "outgoing": [],
        "event_handlers": [],
        "from_environment": {},
    }


def test_every_option_is_listed() -> None:
    """What it has after it was declared is what may be assigned."""
    assert set(vars(Clerk(name="clerk"))) == set(Clerk.options) | Clerk.state


def test_the_outline_of_a_script() -> None:
    """Kinds, names and functions, alike on every machine, and no more than a bus should carry."""

    def read(letter: object) -> None: ...

    clerk = Clerk(name="clerk")
    clerk.declare("on_letter", read)
    many = [Clerk(name="x" * 60) for _ in range(100)]

    assert outline([clerk, Clerk(name="aide")], "/srv/releases/42/post.py") == (
        "post.py",
        "Clerk clerk read",
        "Clerk aide",
    )
    assert outline([], "") == ("a program",)
    assert sum(map(len, outline(many, "post.py"))) < 2000


def test_unknown_names_are_refused_in_the_name_of_its_kind() -> None:
    """Passed or assigned, options and callbacks."""
    made = Clerk(name="clerk")
    with pytest.raises(
        ConfigError, match="'cuont' is not an option of Clerk: did you mean 'count'"
    ):
        Clerk(name="clerk", cuont=2)  # type: ignore[call-arg]
    with pytest.raises(
        ConfigError, match="'on_leter' is not an option of Clerk: did you mean 'on_le"
    ):
        made.on_leter = print


def test_a_misspelt_callback_is_one_sentence() -> None:
    """``@worker.on_leter`` is read before anything is declared with it."""
    clerk: Any = Clerk(name="clerk")
    with pytest.raises(ConfigError) as refused:
        clerk.on_leter(print)
    with pytest.raises(AttributeError):
        clerk.leter(print)

    assert str(refused.value) == (
        "'on_leter' is not a callback of Clerk: did you mean 'on_letter'?"
    )


@pytest.mark.parametrize(
    ("names", "told_apart"),
    [
        (["chat", "news"], ["chat", "news"]),
        (["chat", "chat", "chat"], ["chat", "chat-2", "chat-3"]),
        (["chat", "chat-2", "chat"], ["chat", "chat-2", "chat-3"]),
        (["chat", "chat", "chat-2", "chat-2"], ["chat", "chat-3", "chat-2", "chat-2-2"]),
    ],
)
def test_those_with_one_name_are_numbered(names: list[str], told_apart: list[str]) -> None:
    """Whatever names there are, each is one's own afterwards, and stays it."""
    made = [Clerk(name=name) for name in names]
    make_names_unique(made)
    assert [one.name for one in made] == told_apart
    make_names_unique(made)
    assert [one.name for one in made] == told_apart


def test_callbacks_are_those_of_its_kind() -> None:
    """Each is called with the arguments of its kind."""
    made = Clerk(name="clerk")
    made.declare("on_letter", lambda letter: letter)
    with pytest.raises(ConfigError, match=r"on_letter is called with \(letter\), but <lambda>"):
        made.declare("on_letter", lambda: None)

    assert list(made.callbacks) == ["on_letter"]


def test_a_refused_worker_is_not_declared(declared: list[BaseWorker]) -> None:
    """A mistake that is caught leaves nothing behind."""
    before = list(declared)
    with pytest.raises(ConfigError):
        Clerk(name="clerk", count=0)
    made = Clerk(name="clerk")

    assert declared == [*before, made]


SCRIPT = """
from gateman.config.base import BaseWorker

class Chief(BaseWorker):
    def runner(workers):
        print(*((type(one).__name__, one.name) for one in workers))

Chief(name="one"), BaseWorker(name="other")
Chief.run_all()
"""


def test_run_all_runs_every_kind() -> None:
    """Whichever of them it is called on."""
    # It is for the program itself, and not for what is imported, as a test is.
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, check=True, text=True, timeout=TIMEOUT
    )

    assert ran.stdout == "('Chief', 'one') ('BaseWorker', 'other')\n"


def test_a_worker_imported_from_its_module_cannot_run() -> None:
    """No higher layer has set a runner yet."""

    class Early(Clerk):
        """Of a program that has not imported gateman."""

        runner = None

    with pytest.raises(RuntimeError, match="Early must be imported from gateman"):
        Early.run_all()


@on_loop
async def test_schedule_becomes_timers() -> None:
    """In the process that serves it, not in the one that declares it."""
    made = Clerk(name="clerk")
    runs: list[int] = []
    made.every(0.01)(lambda: runs.append(1))
    before = timers.count
    add_timers(made)
    timers.start()
    await eventually(lambda: bool(runs))
    await timers.stop()

    assert (before, timers.count) == (0, 0)
