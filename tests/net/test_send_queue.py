"""The queue of a client that reads slowly: chunks, sizes, and what is dropped."""

from gateman.net.send_queue import SendQueue

COST = 96  # bytes: of a chunk
CHUNK = 64 << 10  # bytes


def drained(queue: SendQueue) -> list[bytes | bytearray]:
    chunks = []
    while queue:
        chunks.append(queue.pop())
    return chunks


def test_small_frames_are_joined_in_order() -> None:
    """To chunks of at least 64 KiB; a frame as large that begins a chunk is not copied."""
    queue = SendQueue(is_joined=True)
    large = bytes(CHUNK)
    frames = [bytes([number]) * 40_000 for number in range(4)]
    for frame in frames[:2]:
        queue.append(frame)
    queue.append(large)
    for frame in frames[2:]:
        queue.append(frame)

    assert queue.chunk_sizes == [80_000, CHUNK, 80_000]
    assert queue.waiting_size == 4 * 40_000 + CHUNK + 3 * COST
    chunks = drained(queue)
    assert b"".join(chunks) == b"".join([*frames[:2], large, *frames[2:]])
    assert chunks[1] is large
    assert (queue.waiting_size, len(queue)) == (0, 0)


def test_oldest_frames_are_dropped_until_there_is_room() -> None:
    """With what the transport keeps counted, which cannot be dropped."""
    queue = SendQueue(is_joined=False)
    frames = [bytes([number]) * 100 for number in range(4)]
    for frame in frames:
        queue.append(frame)
    queue.kept_size = 50

    assert queue.held_size == 4 * (100 + COST) + 50
    assert list(queue.drop_until(queue.held_size)) == []
    assert list(queue.drop_until(queue.held_size - 1)) == [100]
    assert list(queue.drop_until(300)) == [100, 100]
    assert drained(queue) == frames[3:]
    assert list(queue.drop_until(0)) == []
    assert queue.held_size == 50
