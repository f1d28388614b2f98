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
    while held.data:
        first = held.data[0]
        taken.append((first & 0x0F, held.pop(), first >= 0x80, first & 0x40 != 0))
    return taken


@given(FRAMES)
def test_frames_come_back_as_they_were(frames: list[tuple[int, bytes, bool, bool]]) -> None:
    """All fields of each, in order; also when some are taken before others are put."""
    held = HeldFrames()
    half = len(frames) // 2
    for opcode, payload, fin, rsv1 in frames[:half]:
        held.append(opcode, memoryview(payload), fin, 4 * rsv1)
    taken = drain(held)
    for opcode, payload, fin, rsv1 in frames[half:]:
        held.append(opcode, payload, fin, 4 * rsv1)

    assert taken + drain(held) == frames
    assert held.data == b""


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_takes_no_more_than_it_had_on_the_wire(size: int) -> None:
    """It is less by the mask's four bytes."""
    held = HeldFrames()
    held.append(2, bytes(size), True, 0)
    header = 2 if size < 126 else 4 if size < 65_536 else 10

    assert len(held.data) == header + size
