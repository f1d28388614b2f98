"""The page of a code."""

import pytest

from gateman.doctor.explanation import section, who
from gateman.findings import ALL_CLIENTS, Client, Declaration, Severity, Software, Stage

DECLARED = Declaration(
    code="PATH_NOT_FOUND",
    stage=Stage.UPGRADE,
    severity=Severity.CAUSE,
    problem="{software} has nothing at {path!r}",
    fix="use the path that the service has",
    fixes={Software.NGINX: "add a location for {path!r}"},
    decided="the status is 404",
    details="More.",
)


def test_a_section() -> None:
    assert section(DECLARED).splitlines() == [
        "### PATH_NOT_FOUND",
        "",
        "SOFTWARE has nothing at PATH.",
        "",
        "- **Effect**: keeps clients out.",
        "- **Who**: all clients fail.",
        "- **Fix**: Use the path that the service has.",
        "    - nginx: Add a location for PATH.",
        "- **Decided by**: The status is 404.",
        "",
        "More.",
    ]


@pytest.mark.parametrize(
    ("fails_for", "expected"),
    [
        (ALL_CLIENTS, "all clients fail"),
        (frozenset[Client](), "no client fails"),
        ({Client.ANDROID}, "Android fails; browsers, iOS, Java, Node, Python and WeChat do not"),
        (
            ALL_CLIENTS - {Client.WECHAT},
            "browsers, Android, iOS, Java, Node and Python fail; WeChat does not",
        ),
    ],
)
def test_who(fails_for: frozenset[Client], expected: str) -> None:
    assert who(fails_for) == expected
