"""What is sent to one business process: numbers, windows, and what is forged."""

from gateman.cluster.names import ClientId, NodeId
from gateman.gateway.protocol import (
    EVENT_OVERHEAD,
    AnyEvent,
    ConnectEvent,
    Done,
    Events,
    MessageEvent,
    OpenEvent,
    Result,
)
from gateman.gateway.send_window import (
    CONGESTED_COUNT,
    CONGESTED_SIZE,
    MAX_BATCH_SIZE,
    MAX_UNHANDLED_SIZE,
    WINDOW,
    GatewayClient,
    Pending,
    SendWindow,
    size_of,
)

CLIENT = GatewayClient(ClientId("gate-1"), "10.0.0.1", 5000)


def pending(event: AnyEvent, session: int = 0) -> Pending:
    """Make an event that is not handled, of a client with a session of so many bytes."""
    client = CLIENT
    if session:
        client = GatewayClient(CLIENT.name, CLIENT.remote_ip, CLIENT.remote_port)
        client.session = bytes(session)
    return Pending(event, client, size_of(event))


def window(*sizes: int) -> SendWindow:
    """Make a link with messages of these sizes."""
    made = SendWindow(NodeId("b1"), 3)
    for size in sizes:
        made.add(pending(MessageEvent(CLIENT.name, payload=bytes(size))))
    return made


def sent(made: SendWindow) -> list[tuple[int, int]]:
    """Take what is to be sent: the first number of each batch, and how many events it has."""
    return [(events.first, len(events.items)) for events in made.batches()]


def done(first: int, *numbers: int) -> Done:
    """Make a report of results."""
    return Done(3, 0, has_gap=False, first=first, results=[Result(number) for number in numbers])


def test_events_are_numbered_from_one_on() -> None:
    """What is sent together travels together."""
    made = window(1, 2)
    first = next(made.batches())

    assert first == Events(3, 0, 1, [made.pending[1].event, made.pending[2].event])
    assert (made.last, made.is_waiting, sent(made)) == (2, True, [])
    assert made.heartbeat() == Events(3, 0, 3, [])


def test_what_an_event_takes() -> None:
    """What is in it, what is around it, and on the way the session."""
    head = pending(ConnectEvent(CLIENT.name, head=bytes(100)))
    opened = pending(OpenEvent(CLIENT.name), session=1000)
    window().add(opened)

    assert head.size == EVENT_OVERHEAD + 100
    assert (opened.size, opened.end) == (EVENT_OVERHEAD, EVENT_OVERHEAD + 1000)
    assert opened.event.session == bytes(1000)


def test_a_batch_has_room_for_so_much() -> None:
    """One event is never too much; sessions take room, too."""
    half = MAX_BATCH_SIZE // 2 - EVENT_OVERHEAD
    made = window(half, half, 1, MAX_BATCH_SIZE, 1)

    assert sent(made) == [(1, 2), (3, 1), (4, 1), (5, 1)]

    made = window()
    for _ in range(3):
        made.add(pending(OpenEvent(CLIENT.name), session=half))
    assert sent(made) == [(1, 2), (3, 1)]


def test_a_window_is_on_the_way_and_no_more() -> None:
    """The batch that fills it is the last, until something has arrived."""
    count = WINDOW // MAX_BATCH_SIZE
    made = window(*[MAX_BATCH_SIZE] * 2 * count)

    assert sent(made) == [(number, 1) for number in range(1, count + 1)]
    assert sent(made) == []
    made.acknowledge(2)
    assert sent(made) == [(count + 1, 1), (count + 2, 1)]
    made.acknowledge(count + 2)
    assert sent(made) == [(number, 1) for number in range(count + 3, 2 * count + 1)]
    made.acknowledge(2 * count)
    assert not made.is_waiting


def test_a_process_has_so_much_that_it_has_not_handled() -> None:
    """What comes then waits until something is done; what was lost on its way does not."""
    count = MAX_UNHANDLED_SIZE // MAX_BATCH_SIZE
    made = window(*[MAX_BATCH_SIZE - EVENT_OVERHEAD] * (count + 2))
    while sent(made):
        made.acknowledge(made.last)
    assert made.acknowledged == count

    made.remove(2, 1)
    assert sent(made) == [(count + 1, 1)]
    made.rewind()
    assert sent(made) == [(count + 1, 1)]
    made.acknowledge(count + 1)
    assert sent(made) == []
    made.remove(1, 1)
    assert sent(made) == [(count + 2, 1)]


def test_what_has_not_arrived_is_sent_again() -> None:
    """From the first that is missing on."""
    made = window(1, 1, 1)
    sent(made)
    made.acknowledge(1)
    made.rewind()

    assert (made.is_waiting, made.heartbeat().first) == (False, 2)
    assert sent(made) == [(2, 2)]


def test_what_was_sent_twice_may_arrive_at_once() -> None:
    """That it has come is believed before it is sent again."""
    made = window(1, 1, 1)
    sent(made)
    made.rewind()
    made.acknowledge(2)

    assert made.remove(2, 1) != []
    assert sent(made) == [(3, 1)]
    made.acknowledge(3)
    assert not made.is_waiting


def test_events_are_done_in_any_order_and_once() -> None:
    """What is known to be done is forgotten."""
    made = window(1, 1, 1)
    second = made.pending[2]
    sent(made)
    made.acknowledge(3)

    assert made.remove(2, 1) == [second]
    assert made.remove(2, 1) == []
    assert list(made.pending) == [1, 3]

    first, third = made.pending.values()
    assert made.remove(0, 9**9) == [first, third]


def test_forged_numbers_do_nothing() -> None:
    """Nobody is done with what was not sent, and nothing loops."""
    made = window(1, 1)
    made.acknowledge(9**99)
    assert [made.remove(number, 2) for number in (0, 1, 2, 3, 9**99)] == [[]] * 5

    sent(made)
    assert made.remove(1, 9**99) == []
    made.acknowledge(9**99)
    assert (made.acknowledged, made.remove(3, 1)) == (2, [])
    made.acknowledge(0)
    assert made.acknowledged == 2


def test_results_are_heard_in_their_order() -> None:
    """What follows a hole is heard when all of it is said again; what is known is left out."""
    made = window()

    assert made.new_results(done(2, 7)) == []
    assert made.new_results(done(1, 5, 6)) == [Result(5), Result(6)]
    assert made.new_results(done(1, 5, 6, 7)) == [Result(7)]
    assert made.new_results(done(2, 6)) == []
    assert made.new_results(done(9**9, 8)) == []
    assert made.new_results(done(0, 4)) == []
    assert made.heartbeat().result_count == 3


def test_a_crowd_is_many_or_much() -> None:
    """Then each client gets one event at a time."""
    assert not window(*[0] * CONGESTED_COUNT).is_congested
    assert window(*[0] * (CONGESTED_COUNT + 1)).is_congested

    much = window(*[MAX_BATCH_SIZE] * (CONGESTED_SIZE // MAX_BATCH_SIZE))
    assert much.is_congested
    sent(much)
    much.acknowledge(much.last)
    much.remove(1, 1)
    assert not much.is_congested
