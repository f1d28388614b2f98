"""Domain names: how clients spell them, and for which of them a certificate is."""

import pytest

from gateman.tls.domain_names import is_named, wire_name


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.example.com", "*.example.com"),
        ("MÜNCHEN.test", "xn--mnchen-3ya.test"),
        ("a_b-c.test", "a_b-c.test"),
        ("*", None),
        ("a.*.test", None),
        ("a b", None),
        ("straße.test", None),
        ("a..test", None),
        ("a." * 127 + "a", None),
        ("", None),
        (5, None),
    ],
)
def test_a_name_is_spelled_as_clients_do(name: object, spelled: str | None) -> None:
    assert wire_name(name) == spelled


@pytest.mark.parametrize(
    ("name", "is_for"),
    [
        ("example.com", True),
        ("a.example.org", True),
        ("example.org", False),
        ("b.a.example.org", False),
        ("example.net", False),
        ("com", False),
    ],
)
def test_a_wildcard_of_a_certificate_is_one_label(name: str, *, is_for: bool) -> None:
    assert is_named(name, ["Example.com", "*.example.org", "127.0.0.1"]) is is_for
