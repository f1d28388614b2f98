"""Frames that wait: in order, as they came, and in no more memory than they had on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.websocket.held_frames import HeldFrames

FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2]),
        st.one_of(
            st.binary(max_size=200), st.sampled_from([bytes(125), bytes(65_535), bytes(65_536)])
        ),
        st.booleans(),
        st.booleans(),
    ),
    max_size=20,
)


def drain(held: HeldFrames) -> list[tuple[int, bytes, bool, bool]]:
    """Take every frame."""
    taken = []
    while held:
        opcode, fin, rsv = held.opcode, held.fin, held.rsv
        taken.append((opcode, held.pop(), fin, rsv == 4))
    return taken


@given(FRAMES)
def test_frames_come_back_as_they_were(frames: list[tuple[int, bytes, bool, bool]]) -> None:
    """All fields of each, in order; also when some are taken before others are put."""
    held = HeldFrames()
    half = len(frames) // 2
    for opcode, payload, fin, rsv1 in frames[:half]:
        held.append(opcode, memoryview(payload), fin=fin, rsv1=rsv1)
    taken = drain(held)
    for opcode, payload, fin, rsv1 in frames[half:]:
        held.append(opcode, payload, fin=fin, rsv1=rsv1)

    assert taken + drain(held) == frames
    assert len(held) == 0


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_takes_no_more_than_it_had_on_the_wire(size: int) -> None:
    """It is less by the mask's four bytes."""
    held = HeldFrames()
    held.append(2, bytes(size), fin=True, rsv1=False)
    header = 2 if size < 126 else 4 if size < 65_536 else 10

    assert len(held) == header + size


def test_what_is_not_wanted_any_more_goes_at_once() -> None:
    """And the Close behind it stays."""
    held = HeldFrames()
    held.append(1, b"message", fin=True, rsv1=False)
    held.close = b"close"
    held.clear()

    assert (len(held), held.close) == (0, b"close")
