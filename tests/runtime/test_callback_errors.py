"""What the application's callbacks raise: what is counted and what is logged of it."""

import logging
from collections import Counter

import pytest

from gateman.runtime.callback_errors import CallbackErrors
from tests.support.loop import on_loop


def _raised(*, other: bool = False) -> Exception:
    """Raise, at one of two places."""
    try:
        if other:
            raise LookupError("there")
        raise ValueError("here")
    except (LookupError, ValueError) as error:
        return error


@on_loop
async def test_one_line_for_each_place(caplog: pytest.LogCaptureFixture) -> None:
    """However often a callback fails there, and for whom; each is counted."""
    counts: Counter[str] = Counter()
    errors = CallbackErrors(counts)
    with caplog.at_level(logging.ERROR, "gateman"):
        for client in ("ann", "bob", "cid"):
            errors.add("on_message", client, _raised())
        errors.add("on_open", "ann", _raised(other=True))

    assert [record.getMessage() for record in caplog.records] == [
        "on_message raised ValueError for ann, which is closed for it",
        "on_open raised LookupError for ann, which is closed for it",
    ]
    assert all(record.exc_info for record in caplog.records)
    assert counts == {"callback_failed": 4}
