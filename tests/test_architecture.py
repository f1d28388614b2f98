"""
Where things are and who may import whom; the layers themselves are declared in ``pyproject.toml``.

A module's tests are where its name says, in ``tests/a/test_b.py`` for ``gateman/a/b.py``. What is
true of several modules together is in ``tests/system`` or in one of ``OF_THE_WHOLE``.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "gateman"
TESTS = ROOT / "tests"

OF_THE_WHOLE = {
    "test_architecture.py",
    "test_conftest.py",
    "test_docs.py",
    "test_examples.py",
    "test_exports.py",
}

DRAWERS = {"common", "helpers", "misc", "shared", "tools", "util", "utils"}


def test_every_module_has_its_tests() -> None:
    """A module's tests are in the file that its own name gives."""
    expected = {
        str(path.relative_to(PACKAGE).with_name(f"test_{path.name}"))
        for path in PACKAGE.rglob("*.py")
        if not path.name.startswith("__")
    }
    actual = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}

    assert sorted(expected - actual) == []


def test_every_test_file_has_its_module() -> None:
    """A test file is named after a module, or is of the whole."""
    orphans = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.parent.name not in {"fuzz", "support", "system"}
        and not (
            PACKAGE / path.relative_to(TESTS).with_name(path.name.removeprefix("test_"))
        ).exists()
    }

    assert sorted(orphans - OF_THE_WHOLE) == []


def test_no_module_is_a_drawer() -> None:
    """A name that could hold anything will."""
    drawers = [
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py") if path.stem in DRAWERS
    ]

    assert sorted(drawers) == []


def test_imports_point_down() -> None:
    """The contracts on layers, purity and third-party packages hold."""
    # In a process of its own: it sets up logging, and so disables ours.
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    checked = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


def test_contributors_read_the_rows_that_are_checked() -> None:
    """``CONTRIBUTING.md`` names the rows of the layers contract, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rows = re.findall(
        r"(?m)^    (\w+(?:, \w+)*)(?:   .*)?$", (ROOT / "CONTRIBUTING.md").read_text()
    )

    assert rows == [row.replace(" | ", ", ") for row in layers]
