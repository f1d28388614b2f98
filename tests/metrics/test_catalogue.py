"""gateman's own metrics: their names and units follow Prometheus's conventions."""

import shutil
import subprocess

import pytest

from gateman.metrics.catalogue import CATALOGUE, made
from gateman.metrics.exposition import write


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say() -> None:
    """It knows the conventions for names, units and descriptions."""
    families = [
        made(name, [(("x",) * len(one.labels), [1.0] * one.width)])
        for name, one in CATALOGUE.items()
    ]
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=write(families),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_names_say_whose_they_are() -> None:
    assert all(name.startswith("gateman_") for name in CATALOGUE)
    assert all(name.endswith("_total") for name, one in CATALOGUE.items() if one.kind == "counter")


def test_a_family_is_made_from_numbers_by_label() -> None:
    family = made("gateman_closes_total", {("chat", "1000"): 3})

    assert family.series == [(("chat", "1000"), [3.0])]
    assert family.is_of(CATALOGUE["gateman_closes_total"])
