"""A question is over when all have answered, have ended, or time is up."""

from gateman.master.questions import Question

ANSWER = {"connections": 3}


def ask(*pids: int) -> Question:
    """Put a question that is waited for until 10."""
    return Question(pids, 10.0, lambda _: None)


def test_all_have_answered() -> None:
    """Then nobody waits any longer; what they said is kept by pid."""
    question = ask(1, 2)
    question.answered(2, ANSWER)

    assert not question.is_over(5.0)

    question.answered(1, {})

    assert question.is_over(5.0)
    assert question.answers == {1: {}, 2: ANSWER}


def test_time_is_up() -> None:
    """A stuck process holds an answer up until the instant that was given, and no longer."""
    question = ask(1, 2)
    question.answered(1, ANSWER)

    assert [question.is_over(now) for now in (9.9, 10.0, 11.0)] == [False, True, True]
    assert question.answers == {1: ANSWER}


def test_who_has_ended_is_not_waited_for() -> None:
    """It may have ended before or after its answer; strangers are no matter."""
    question = ask(1, 2)
    question.answered(1, ANSWER)
    for pid in (1, 2, 3):
        question.forget(pid)

    assert question.is_over(0.0)
    assert question.answers == {1: ANSWER}


def test_nobody_was_asked() -> None:
    """Then there is nothing to wait for."""
    assert ask().is_over(0.0)


def test_who_asked_takes_it() -> None:
    """The question itself is what it gets."""
    taken: list[Question] = []
    question = Question([1], 10.0, taken.append)
    question.then(question)

    assert taken == [question]
