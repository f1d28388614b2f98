"""Answers that are longer than what the bus carries."""

from typing import Any

import pytest

from gateman.cluster.envelope import OVERHEAD, Problem, Query, encode, encode_value
from gateman.cluster.names import NodeId
from gateman.cluster.query_replies import KINDS, answers, read, refusal
from gateman.errors import EnvelopeError

ME = NodeId("me")
LIMIT = OVERHEAD + 100


@pytest.mark.parametrize("count", [0, 1, 9, 10, 100, 1000])
def test_a_long_list_is_answered_in_parts(count: int) -> None:
    """Each part fits, and together they are the answer."""
    clients = [f"n-{number}" for number in range(count)]
    parts = list(answers(ME, 7, clients, max_size=LIMIT))

    assert all(len(encode(part)) <= LIMIT for part in parts)
    assert [part.part for part in parts] == list(range(len(parts)))
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    found = read(Query.CLIENTS_OF_GROUP, [part.value for part in parts])
    assert [client for one in found for client in one] == clients


@pytest.mark.parametrize("value", [{"key": "x" * 200}, [("n-1", {"key": object()})], ["x" * 200]])
def test_what_cannot_be_sent_is_refused(value: Any) -> None:
    """One session that is too long, or holds a socket, is named as a problem, not left out."""
    parts = list(answers(ME, 7, value, max_size=LIMIT))

    assert [(part.part, part.is_last, part.problem) for part in parts] == [
        (0, True, Problem.NOT_SENDABLE)
    ]


def test_a_refusal_says_why() -> None:
    """It is one part that holds nothing."""
    said = refusal(ME, 7, Problem.UNKNOWN_CLIENT)

    assert (said.source, said.request_id, said.is_last, said.problem) == (
        ME,
        7,
        True,
        Problem.UNKNOWN_CLIENT,
    )


def test_every_question_has_a_kind_of_answer() -> None:
    """What is asked decides what an answer must be."""
    assert set(KINDS) == set(Query)
    with pytest.raises(EnvelopeError):
        list(read(Query.COUNT_CLIENTS, [encode_value("many")]))
