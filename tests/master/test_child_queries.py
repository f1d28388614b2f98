"""A question is over when all have answered, have ended, or time is up."""

from gateman.master.channel import ConnectionsAnswer, ReportAnswer
from gateman.master.child_queries import ChildQuery

from .test_channel import REPORT

ANSWER = ConnectionsAnswer(1, [], 3)
OTHER = ConnectionsAnswer(1, [], 0)


def ask(*pids: int) -> ChildQuery[ConnectionsAnswer]:
    """Put a question that is waited for until 10."""
    return ChildQuery(pids, 10.0, ConnectionsAnswer, lambda _: None)


def test_all_have_answered() -> None:
    """The query is complete; answers are kept by pid."""
    question = ask(1, 2)
    question.add_answer(2, ANSWER)

    assert not question.is_done(5.0)

    question.add_answer(1, OTHER)

    assert question.is_done(5.0)
    assert question.answers == {1: OTHER, 2: ANSWER}


def test_time_is_up() -> None:
    """A stuck process holds an answer up until the instant that was given, and no longer."""
    question = ask(1, 2)
    question.add_answer(1, ANSWER)

    assert [question.is_done(now) for now in (9.9, 10.0, 11.0)] == [False, True, True]
    assert question.answers == {1: ANSWER}


def test_ended_processes_are_not_waited_for() -> None:
    """It may have ended before or after its answer; an unknown pid changes nothing."""
    question = ask(1, 2)
    question.add_answer(1, ANSWER)
    for pid in (1, 2, 3):
        question.forget(pid)

    assert question.is_done(0.0)
    assert question.answers == {1: ANSWER}


def test_no_process_was_asked() -> None:
    """Then there is nothing to wait for."""
    assert ask().is_done(0.0)


def test_the_caller_gets_the_answers() -> None:
    """The answers are what it gets."""
    taken: list[dict[int, ConnectionsAnswer]] = []
    question = ChildQuery([1], 10.0, ConnectionsAnswer, taken.append)
    question.add_answer(1, ANSWER)
    question.finish()

    assert taken == [{1: ANSWER}]


def test_only_answers_to_it_are_taken() -> None:
    """One of another kind is waited for in vain; one of a process that was not asked is nothing."""
    question = ask(1)
    question.add_answer(1, ReportAnswer(1, REPORT))
    question.add_answer(2, ANSWER)

    assert not question.is_done(5.0)
    assert question.answers == {}
