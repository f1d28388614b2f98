"""What callbacks and timers raise fails the test, unless the test expects it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..log import error_observers


@dataclass(slots=True)
class Raised:
    """
    What :func:`expected` has seen.

    Attributes:
        errors: The errors of callbacks, in order.
    """

    errors: list[BaseException] = field(default_factory=list)


class Collected:
    """The errors of callbacks while a service runs."""

    def __init__(self) -> None:
        self._errors: list[tuple[str, BaseException | str]] = []

    def add(self, message: str, error: BaseException | str) -> None:
        self._errors.append((message, error))

    def begin(self) -> None:
        error_observers.append(self.add)

    def end(self, failure: BaseException | None) -> None:
        """Fail the test for what was collected, or note it at the failure that there is."""
        error_observers.remove(self.add)
        if not self._errors:
            return
        texts = [f"{message}: {error!r}" for message, error in self._errors]
        if failure is not None:
            for text in texts:
                failure.add_note(text)
            return
        first = self._errors[0][1]
        raise AssertionError("; ".join(texts)) from (
            first if isinstance(first, BaseException) else None
        )


@contextmanager
def expected(*kinds: type[Exception]) -> Iterator[Raised]:
    """
    Expect that callbacks raise something while the body of a ``with`` runs.

    The body has to wait for the error's effect, such as ``await client.wait_closed()``.

    Args:
        kinds: The classes of the errors.

    Raises:
        AssertionError: No callback raised one of them.
    """
    raised = Raised()

    def take(_message: str, error: BaseException | str) -> bool:
        if isinstance(error, kinds):
            raised.errors.append(error)
            return True
        return False

    # In front: what it takes reaches no other.
    error_observers.insert(0, take)
    try:
        yield raised
    finally:
        error_observers.remove(take)
    names = " or ".join(kind.__name__ for kind in kinds)
    assert raised.errors, f"no callback raised {names}"
