"""The example of tests passes, with each runner that its page names."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "tested"

PLUGIN = """
import pytest
from gateman import testing
from server import worker

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_a_message_comes_back():
    async with testing.connect(worker, "/chat?token=secret") as client:
        await client.send("hi")
        assert await client.receive() == "hi"
"""


@pytest.mark.parametrize("runner", [["unittest", "-q"], ["pytest", "-q", "-p", "no:cacheprovider"]])
def test_the_example(runner: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *runner], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4" in ended.stdout + ended.stderr


def test_a_plugin_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text((FOLDER / "server.py").read_text())
    (tmp_path / "test_plugin.py").write_text(PLUGIN)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-p", "anyio"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


def test_the_package_that_is_missing() -> None:
    program = "import sys; sys.modules['websockets.asyncio.client'] = None; import gateman.testing"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "pip install 'gateman[testing]'" in ended.stderr.splitlines()[-1]
