"""Values of channels by pattern; their options are tested with the channels."""

from gateman.cluster.patterns import Patterns


def test_users_channels_are_no_others() -> None:
    """A pattern for all channels is not for those of users."""
    patterns = Patterns({"*": 1, "room": 2, "room:*": 3})

    assert [patterns.get(name) for name in ("room", "room:1", "rooms", "#room")] == [2, 3, 1, None]
    assert Patterns({"room": 1}).get("other") is None
