"""Events and actions are values."""

from typing import get_args

import msgspec
import pytest

from gateman.master import events


@pytest.mark.parametrize(
    "kind", [*get_args(events.SupervisorEvent), *get_args(events.SupervisorAction)]
)
def test_they_cannot_be_changed(kind: type) -> None:
    """A table of them stays what it is, and they are compared by what they say."""
    names = [one.name for one in msgspec.structs.fields(kind)]
    one, other = (kind(*range(len(names))) for _ in range(2))

    assert one == other
    assert hash(one) == hash(other)
    for name in names:
        with pytest.raises(AttributeError):
            setattr(one, name, 7)
