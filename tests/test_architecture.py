"""
What readers rely on: every module is tested, tests are found by package, imports point down.

The layers themselves are declared in ``pyproject.toml``.
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "gateman"
TESTS = ROOT / "tests"

OF_SEVERAL_PACKAGES = {"clients_sdk", "fuzz", "support", "system", "typing"}

DRAWERS = {"common", "helpers", "misc", "shared", "tools", "util", "utils"}


def test_every_module_is_tested() -> None:
    """A test imports it, or is named after it, where it runs in a process of its own."""
    imported = {
        name
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in (node.module or "", *(f"{node.module}.{one.name}" for one in node.names))
    }
    named = {path.name for path in TESTS.rglob("test_*.py")}
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if not path.name.startswith("__") and f"test_{path.name}" not in named
    }

    assert sorted(modules - imported) == []


def test_tests_are_in_the_folder_of_their_package() -> None:
    """Their files are named after behaviour; the folders are those of the packages."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in TESTS.glob("*/*.py")}

    assert sorted(folders - packages - OF_SEVERAL_PACKAGES) == []
    assert sorted(packages - folders) == []


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
