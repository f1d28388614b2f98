"""The certificates that each address shows."""

from dataclasses import replace

import pytest

from .seen import DAY, LEAF, MIDDLE, NOW, OPEN, WSS, look, shown


def test_a_certificate_that_was_renewed_on_one_of_two_machines() -> None:
    old = shown(replace(LEAF, expires_at=NOW - DAY), MIDDLE)
    (found,) = look(WSS, replace(OPEN, address="192.0.2.2"), old)

    assert found.problem.startswith("the certificate that 192.0.2.1 shows has expired on")
    assert found.evidence.endswith("the other addresses show another one, which is well")


@pytest.mark.parametrize(
    ("host", "names", "words"),
    [
        ("c.b.example.com", ("*.example.com",), "as a wildcard stands for one label only"),
        ("example.com", ("*.example.com",), "as a wildcard does not stand for the domain itself"),
        ("c.example", ("a.example",), "not for 'c.example'"),
        (
            "c.example",
            ("*.example",),
            "a wildcard right below a top-level domain counts for nothing",
        ),
        ("192.0.2.7", ("192.0.2.7",), "an address that is named as a domain (DNS) counts for none"),
    ],
)
def test_why_a_name_does_not_fit(host: str, names: tuple[str, ...], words: str) -> None:
    (found,) = look(f"wss://{host}/", shown(replace(LEAF, names=names), MIDDLE))

    assert found.problem.endswith(words)
