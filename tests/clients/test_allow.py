"""What callbacks return about commands of SDK clients."""

import pytest

from gateman import Allow, ConfigError
from gateman.clients.allow import allow_of


def test_what_a_callback_returned_is_read() -> None:
    """False refuses; other values are data."""
    named = Allow(info={"name": "Ann"})

    assert (allow_of(None), allow_of(True), allow_of(named)) == (Allow(), Allow(), named)  # noqa: FBT003
    assert (allow_of({}), allow_of(0)) == (Allow(data={}), Allow(data=0))
    assert allow_of(result=False) is None


@pytest.mark.parametrize("seconds", [0, -1, "60", 1 << 32])
def test_an_end_is_in_seconds(seconds: float) -> None:
    """A mistake is told where it is made."""
    with pytest.raises(ConfigError, match="cannot work"):
        Allow(expires_in=seconds)
