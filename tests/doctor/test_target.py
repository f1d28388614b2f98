"""The URL that the doctor looks at."""

import pytest

from gateman.doctor.target import Target


@pytest.mark.parametrize(
    ("is_tls", "host", "port", "expected"),
    [
        (True, "example.com", 443, "example.com"),
        (True, "example.com", 80, "example.com:80"),
        (False, "192.0.2.1", 80, "192.0.2.1"),
        (True, "2001:db8::1", 8443, "[2001:db8::1]:8443"),
    ],
)
def test_the_host_field(*, is_tls: bool, host: str, port: int, expected: str) -> None:
    target = Target(url="", is_tls=is_tls, host=host, port=port, path="/")

    assert target.authority == expected
