"""Questions that wait: what is said, what silence means, and until when."""

import asyncio

from gateman.bus.interest import InterestQueries, answered

from ..support.loop import eventually, on_loop, turns


def outcomes(answers: list[asyncio.Future[bool | None]]) -> list[bool | str | None]:
    """Tell what is known."""
    return [one.result() if one.done() else "open" for one in answers]


@on_loop
async def test_silence_until_the_pong_means_a_subscriber() -> None:
    """Each pong answers what was asked before its ping, and nothing that was asked later."""
    questions = InterestQueries()
    numbers, answers = zip(*(questions.add() for _ in range(3)), strict=True)
    questions.asked()
    later = questions.add()[1]
    questions.asked()
    questions.denied(numbers[1])
    first = outcomes([*answers, later])
    questions.confirmed(has_subscriber=True)
    second = outcomes([*answers, later])
    questions.confirmed(has_subscriber=None)

    assert numbers == (1, 2, 3)
    assert first == ["open", False, "open", "open"]
    assert second == [True, False, True, "open"]
    assert outcomes([later]) == [None]


@on_loop
async def test_pings_without_questions_count_too() -> None:
    """They have another reason, and pongs of their own."""
    questions = InterestQueries()
    questions.asked()
    answer = questions.add()[1]
    questions.asked()
    questions.confirmed(has_subscriber=True)
    first = outcomes([answer])
    questions.confirmed(has_subscriber=True)

    assert (first, outcomes([answer])) == (["open"], [True])


@on_loop
async def test_a_query_is_bounded_in_time() -> None:
    """Without an answer it is unknown; one that comes later is ignored, and changes no other."""
    questions = InterestQueries(timeout=0.02)
    number, answer = questions.add()
    questions.asked()
    await eventually(answer.done)
    questions.denied(number)
    later = questions.add()[1]
    questions.asked()
    questions.confirmed(has_subscriber=True)
    before = outcomes([answer, later])
    questions.confirmed(has_subscriber=True)

    assert (before, outcomes([answer, later])) == ([None, "open"], [None, True])


@on_loop
async def test_what_was_refused_is_unknown() -> None:
    """Only what was asked already; what comes later is asked all the same."""
    questions = InterestQueries()
    questions.doubted()
    answer = questions.add()[1]
    questions.asked()
    later = questions.add()[1]
    questions.doubted()
    before = outcomes([answer, later])
    questions.asked()
    questions.confirmed(has_subscriber=True)
    questions.confirmed(has_subscriber=True)

    assert (before, outcomes([answer, later])) == ([None, "open"], [None, True])


@on_loop
async def test_the_end_of_a_connection_answers_everything() -> None:
    """Nothing is left, and the next connection has questions of its own."""
    questions = InterestQueries()
    questions.asked()
    answers = [questions.add()[1]]
    questions.asked()
    answers.append(questions.add()[1])
    questions.broken()
    number, again = questions.add()
    questions.asked()
    questions.confirmed(has_subscriber=True)

    assert (outcomes(answers), number, outcomes([again])) == ([None, None], 3, [True])


@on_loop
async def test_the_asking_client_may_have_left() -> None:
    """An answer that nobody waits for any more goes nowhere."""
    questions = InterestQueries()
    number, left = questions.add()
    other = questions.add()[1]
    left.cancel()
    other.cancel()
    questions.asked()
    questions.denied(number)
    questions.confirmed(has_subscriber=True)
    await turns()

    assert (left.cancelled(), other.cancelled()) == (True, True)


@on_loop
async def test_an_answer_may_be_there_already() -> None:
    """It can be awaited like the others."""
    assert [await answered(has_subscriber=one) for one in (True, False, None)] == [
        True,
        False,
        None,
    ]
