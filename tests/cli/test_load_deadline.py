"""Scripts that hang before they come to ``Worker.run_all()``."""

import json
from pathlib import Path

import pytest

from .test_doctor import doctor


@pytest.mark.parametrize("place", ["server.py", "app/__init__.py"])
def test_a_script_that_hangs_while_it_loads(tmp_path: Path, place: str) -> None:
    """The doctor says where, although the script tries again after every error."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "server.py").touch()
    file = tmp_path / place
    file.write_text(
        "import time\nwhile True:\n    try:\n        time.sleep(3600)\n"
        "    except Exception:\n        continue\n"
    )
    name = "server.py" if place == "server.py" else "app.server"
    seen = doctor(tmp_path, name, "--timeout=2", "--json")

    if name == "server.py":
        invalid, *_ = json.loads(seen.stdout)["causes"]
        assert (seen.returncode, seen.stderr) == (1, "")
        assert invalid["code"] == "SERVICE_INVALID"
        said = invalid["sentence"]
    else:
        # Without the module, there is no service to look at.
        assert (seen.returncode, seen.stdout) == (4, "")
        said = seen.stderr
    assert f"{name} did not come to Worker.run_all() within 2 s, it is at {file}:4: move" in said


def test_threads_of_a_script_that_hangs_are_not_waited_for(tmp_path: Path) -> None:
    """Here one that does not end, and whose result the script waits for."""
    (tmp_path / "server.py").write_text(
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "pool = ThreadPoolExecutor()\npool.submit(time.sleep, 3600).result()\n"
    )
    seen = doctor(tmp_path, "server.py", "--timeout=2", "--json")

    assert (seen.returncode, seen.stderr) == (1, "")
    assert "server.py:4: move" in json.loads(seen.stdout)["causes"][0]["sentence"]


def test_a_script_that_hangs_and_cannot_be_interrupted(tmp_path: Path) -> None:
    """The doctor ends all the same, with the sentence alone."""
    (tmp_path / "server.py").write_text(
        "import time\nwhile True:\n    try:\n        time.sleep(3600)\n    except:\n        pass\n"
    )
    seen = doctor(tmp_path, "server.py", "--timeout=2")

    assert (seen.returncode, seen.stdout) == (4, "")
    assert seen.stderr == (
        "gateman: server.py did not come to Worker.run_all() within 2 s, it is at"
        f" {tmp_path / 'server.py'}:4: move what it waits for into on_worker_start, or give a"
        " longer --timeout.\n"
    )
