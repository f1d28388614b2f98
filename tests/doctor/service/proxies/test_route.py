"""What all readers of configurations share."""

import pytest

from gateman.doctor.service.proxies.route import Upstream, all_of, any_of, host_and_port


@pytest.mark.parametrize(
    ("values", "every", "some"),
    [
        ([], True, False),
        ([True, True], True, True),
        ([True, None], None, True),
        ([False, None], False, None),
        ([False, True], False, True),
    ],
)
def test_what_is_not_known_stays_so(
    values: list[bool | None], *, every: bool | None, some: bool | None
) -> None:
    assert (all_of(values), any_of(values)) == (every, some)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1", ("a", 1)),
        ("a", ("a", 80)),
        ("[::1]:2", ("::1", 2)),
        ("[::1]", ("::1", 80)),
        (":3", ("", 3)),
    ],
)
def test_hosts_with_ports(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text, 80) == expected


def test_an_upstream_is_written_as_an_address() -> None:
    written = [str(Upstream(host="::1", port=1)), str(Upstream(path="/a")), str(Upstream(host="b"))]

    assert written == ["[::1]:1", "unix:/a", "b:0"]
