"""Programs that call ``run_all`` wherever they are loaded."""

from pathlib import Path

import pytest

from gateman import ConfigError, testing


def test_a_program_is_loaded_anew_each_time_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("PORT = 8282\n")
    program = tmp_path / "server.py"
    program.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside_it import PORT\n"
        "from gateman import Worker\n"
        "@dataclass\n"
        "class User:\n"
        "    name: str\n"
        "worker = Worker(f'websocket://127.0.0.1:{PORT}')\n"
        "rooms = {}\n"
        "Worker.run_all()\n"
        "is_complete = True\n"
    )
    one, other = testing.load(program), testing.load(str(program))
    relative = testing.load("../../examples/ws.py")

    assert one.worker.listen == "websocket://127.0.0.1:8282"
    assert relative.worker.listen == "websocket://127.0.0.1:8282"
    assert one.worker is not other.worker
    assert one.rooms is not other.rooms
    assert one.is_complete
    assert one.User("ann") == one.User("ann")


def test_a_program_that_fails_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no program .*none\.py"):
        testing.load(tmp_path / "none.py")
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        testing.load(bad)
