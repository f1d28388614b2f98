"""When connections that end tell that something cuts silent ones."""

import pytest

from gateman.net.idle_cuts import IdleCuts


def codes(silences: list[float], *, distance: float = 2.0) -> list[str]:
    cuts = IdleCuts()
    findings = [cuts.ended(silence, distance * n) for n, silence in enumerate(silences)]
    return [one.code for one in findings if one is not None]


@pytest.mark.parametrize(
    ("silences", "count"),
    [
        ([60.0, 60.1, 60.0, 60.2, 60.1], 1),
        ([60.0, 60.1, 60.0, 60.2], 0),
        ([60.0, 60.1, 60.0, 60.2, 60.1, 60.0], 2),
        ([3.0, 60.1, 60.0, 60.2, 60.1], 0),
        ([3.0, 60.1, 60.0, 60.2, 60.1, 60.0], 1),
        ([60.0, 12.0, 60.0, 31.0, 60.1, 60.0], 0),
        ([2.0] * 9, 0),
    ],
)
def test_silences_in_step(silences: list[float], count: int) -> None:
    assert codes(silences) == ["IDLE_CUTS"] * count


def test_ends_at_one_moment_are_no_sign() -> None:
    """The restart of a proxy ends all connections, which were pinged at the same time."""
    assert codes([25.0] * 50, distance=0.01) == []


def test_the_sentence() -> None:
    cuts = IdleCuts()
    (finding,) = filter(None, (cuts.ended(60.04, 10.0 * n) for n in range(5)))

    assert finding.line == (
        "5 connections in a row ended without a Close after 60.0 s without a byte: something in"
        " front cuts silent connections: set timeouts.ping_interval below that time, and raise it"
        " there (nginx: proxy_read_timeout; Apache: Timeout; HAProxy: timeout tunnel)"
        " (IDLE_CUTS)"
    )
