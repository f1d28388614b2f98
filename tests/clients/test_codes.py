"""Each code of the protocol has its text, and each close of gateman its code for SDKs."""

import pytest

from gateman.clients.codes import (
    DISCONNECT_REASONS,
    ERROR_MESSAGES,
    TEMPORARY_ERRORS,
    UNSUBSCRIBE_REASONS,
    DisconnectCode,
    ErrorCode,
    UnsubscribeCode,
    sdk_close,
)
from gateman.websocket import close


def test_every_code_has_a_text() -> None:
    assert set(ERROR_MESSAGES) == set(ErrorCode)
    assert set(UNSUBSCRIBE_REASONS) == set(UnsubscribeCode)
    assert set(DISCONNECT_REASONS) == set(DisconnectCode)
    assert [int(code) for code in sorted(TEMPORARY_ERRORS)] == [100, 111]


@pytest.mark.parametrize(
    ("plain", "sdk"),
    [
        (close.GOING_AWAY[0], 3001),
        (close.SERVICE_RESTART[0], 3001),
        (close.NO_LOGIN[0], 3507),
        (close.INTERNAL_ERROR[0], 3004),
        (close.TOO_SLOW[0], 3008),
        (close.LOGGED_IN_ELSEWHERE[0], 4509),
        (1000, 3503),
        (1002, 3501),
        (1007, 3501),
        (1009, 1009),
        (4000, 4000),
        (4500, 4500),
        (3001, 3001),
    ],
)
def test_closes_that_say_the_same_to_sdks(plain: int, sdk: int) -> None:
    """A plain client decides by what it knows whether it comes back; an SDK by the number."""
    assert sdk_close(plain, "because") == (sdk, "because")


def test_final_closes_have_reasons() -> None:
    """Without one the JS SDK would come back."""
    assert sdk_close(1008) == (3507, "permission denied")
    assert sdk_close(4500) == (4500, "disconnected")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("429", "code 4000: 429"),
        (' {"a": 1} ', 'code 4000:  {"a": 1} '),
        ('"' + "é" * 60 + '"', 'code 4000: "' + "é" * 55),
        ("429 requests", "429 requests"),
    ],
)
def test_reasons_are_not_json(reason: str, sent: str) -> None:
    """The JS SDK would take it for an order in place of the code."""
    assert sdk_close(4000, reason) == (4000, sent)
