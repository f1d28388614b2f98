"""The example of tests passes, and each runner of tests that its page names runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "tested"

WITH_ANYIO = """
import pytest
from gateman import testing
from server import worker

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def service(anyio_backend):
    async with testing.service(worker, processes=2) as service:
        yield service

@pytest.mark.anyio
async def test_a_message_comes_back(service):
    async with testing.connect(worker, "/chat?token=secret") as client:
        await client.send("hi")
        assert await client.receive() == "hi"
        await testing.advance(60)
        assert await client.receive() == "Are you still there?"
"""

# The same with pytest-asyncio, whose fixtures run in a context of their own.
WITH_PYTEST_ASYNCIO = (
    WITH_ANYIO.replace("pytest.mark.anyio", "pytest.mark.asyncio")
    .replace("(anyio_backend)", "()")
    .replace("@pytest.fixture\nasync", "@pytest_asyncio.fixture\nasync")
    .replace("import pytest\n", "import pytest, pytest_asyncio\n")
)

PLAIN = """
import asyncio
from gateman import testing
from server import worker

def test_a_message_comes_back():
    async def talk():
        async with testing.connect(worker, "/chat?token=secret") as client:
            await client.send("hi")
            assert await client.receive() == "hi"
            await testing.advance(60)
            assert await client.receive() == "Are you still there?"

    asyncio.run(talk())
"""


def run(folder: Path, *words: str) -> str:
    """Run tests with the options of this folder alone."""
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-W", "error")


@pytest.mark.parametrize(
    "runner",
    [("unittest", "-q"), (*PYTEST, "--rootdir", ".", "-p", "no:asyncio")],
    ids=["unittest", "pytest"],
)
def test_the_example(runner: tuple[str, ...]) -> None:
    assert re.search("Ran 4 tests|4 passed", run(FOLDER, *runner))


def test_the_tests_beside_the_examples() -> None:
    plugins = ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function")
    programs = [str(path) for path in sorted(FOLDER.parent.glob("test_*.py"))]
    words = (*PYTEST, "--rootdir", ".", *plugins, "-o", "asyncio_mode=auto", *programs)

    assert "3 passed" in run(FOLDER.parents[1], *words)


def test_the_page_shows_a_part_of_them() -> None:
    page = (FOLDER.parents[1] / "docs" / "testing.md").read_text()
    [shown] = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "testing.service(" in block
    ]

    assert shown in (FOLDER.parent / "test_gateway_chat.py").read_text()


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        (PLAIN, ("-p", "no:asyncio", "-p", "no:anyio")),
        (WITH_ANYIO, ("-p", "no:asyncio")),
        (
            WITH_PYTEST_ASYNCIO,
            ("-p", "no:anyio", "-o", "asyncio_default_fixture_loop_scope=function"),
        ),
    ],
    ids=["plain", "anyio", "pytest-asyncio"],
)
def test_a_runner_of_pytest(tmp_path: Path, text: str, plugins: tuple[str, ...]) -> None:
    (tmp_path / "server.py").write_text((FOLDER / "server.py").read_text())
    (tmp_path / "test_it.py").write_text(text)

    assert "1 passed" in run(tmp_path, *PYTEST, *plugins, "--rootdir", str(tmp_path))


def test_the_package_that_is_missing() -> None:
    program = "import sys; sys.modules['websockets.asyncio.client'] = None; import gateman.testing"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install 'gateman[testing]'" in ended.stderr.splitlines()[-1]
