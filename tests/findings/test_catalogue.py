"""The declarations of findings, as documentation and users need them."""

import re

from gateman.findings import acme, catalogue, certificates, handshakes, lasting, network, services


def test_each_code_is_declared_once() -> None:
    modules = (network, certificates, acme, handshakes, lasting, services)
    codes = [one.code for module in modules for one in module.DECLARATIONS]

    assert len(codes) == len(set(codes))
    assert set(codes) == set(catalogue.CATALOGUE)


def test_codes_are_in_capitals() -> None:
    assert [one for one in catalogue.CATALOGUE if not re.fullmatch(r"[A-Z][A-Z0-9_]+", one)] == []


def test_sentences_end_without_a_full_stop() -> None:
    ending = [
        (one.code, text)
        for one in catalogue.CATALOGUE.values()
        for text in (one.problem, one.fix, *one.fixes.values())
        if text.endswith(".") or not text
    ]

    assert ending == []


def test_each_says_how_it_is_decided() -> None:
    assert [one.code for one in catalogue.CATALOGUE.values() if not one.decided] == []
