"""What is done for one certificate, with a real authority and its answers altered."""

import pytest

from gateman.acme.state import Attempt
from gateman.acme.steps import failed_kinds


def attempt(challenge: str, code: str = "") -> Attempt:
    return Attempt(at=0.0, challenge=challenge, code=code)


@pytest.mark.parametrize(
    ("attempts", "failed"),
    [
        ((), set()),
        # Nothing else has worked: both are tried again.
        ((attempt("tls-alpn-01", "X"),), set()),
        ((attempt("tls-alpn-01", "X"), attempt("http-01")), {"tls-alpn-01"}),
        ((attempt("tls-alpn-01", "X"), attempt("http-01"), attempt("tls-alpn-01")), set()),
        # What the command of dns failed with says nothing about challenges.
        ((attempt("", "X"), attempt("http-01")), set()),
    ],
)
def test_a_challenge_that_failed_comes_last_if_another_has_worked(
    attempts: tuple[Attempt, ...], failed: set[str]
) -> None:
    assert failed_kinds(attempts) == failed
