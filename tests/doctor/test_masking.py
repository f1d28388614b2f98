"""Evidence from other machines is shown without harm, and without secrets."""

import pytest

from gateman.doctor.masking import shown, shown_evidence
from gateman.findings.catalogue import CATALOGUE


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
    assert shown_evidence(f"{name}: Bearer abc") == f"{name}: …"
    assert shown_evidence(f"sent {name}: a=b; c=d\r\nHost: x") == f"sent {name}: …\\r\\nHost: x"


def test_other_fields() -> None:
    assert shown_evidence("Server: nginx") == "Server: nginx"


def test_no_sentence_of_the_doctor_is_taken_for_a_secret() -> None:
    texts = [
        text
        for one in CATALOGUE.values()
        for text in (one.problem, one.fix, *one.fixes.values())
        if len(text) < 500
    ]

    assert [text for text in texts if shown(text) != text] == []
