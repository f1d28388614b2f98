"""Evidence from other machines is shown without harm, and without secrets."""

import pytest

from gateman.doctor.masking import shown, shown_field


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx/1.22", "nginx/1.22"),
        ("a\x1b[2Jb\r\n", "a\\x1b[2Jb\\r\\n"),
        ("/chat?token=secret&room=2", "/chat?token=…&room=…"),
        ("wss://user:word@host/", "wss://…@host/"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 501, "x" * 499 + "…"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_secrets_of_the_command_line() -> None:
    assert shown("sent s3cret, got s3cret", ["s3cret", ""]) == "sent …, got …"


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Set-Cookie"])
def test_fields_that_authorize(name: str) -> None:
    assert shown_field(name, "Bearer abc") == f"{name}: …"


def test_other_fields() -> None:
    assert shown_field("Server", "nginx") == "Server: nginx"
