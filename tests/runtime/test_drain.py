"""How many connections a drain closes as its time passes."""

from gateman.runtime.drain import due_count


def test_a_drain_closes_in_proportion_to_its_time() -> None:
    closed = [0]
    for share in (0.0, 0.25, 0.5, 0.99, 1.0, 2.0):
        closed.append(closed[-1] + due_count(closed[-1], 10 - closed[-1], share))

    assert closed[1:] == [0, 3, 5, 10, 10, 10]


def test_connections_that_end_by_themselves_are_not_made_up_for() -> None:
    assert due_count(4, 2, 0.5) == 0


def test_what_arrives_late_is_due_at_the_end() -> None:
    assert due_count(10, 1, 1.5) == 1
