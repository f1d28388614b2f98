"""Where the storage is, and whether it will be there after a deploy."""

from pathlib import Path

import pytest

from gateman.acme.storage_folder import default_folder, why_ephemeral


@pytest.mark.parametrize(
    ("user", "environ", "where", "expected"),
    [
        (None, {}, ("linux", 0), "/var/lib/gateman/acme"),
        ("www-data", {}, ("linux", 0), "/var/lib/gateman/acme-www-data"),
        (1000, {}, ("linux", 0), "/var/lib/gateman/acme-1000"),
        ("a/../b", {}, ("linux", 0), "/var/lib/gateman/acme-a_.._b"),
        (None, {}, ("linux", 1000), "/home/me/.local/share/gateman/acme"),
        (None, {"XDG_DATA_HOME": "/data"}, ("linux", 1000), "/data/gateman/acme"),
        (None, {"STATE_DIRECTORY": "/var/lib/chat"}, ("linux", 1000), "/var/lib/chat/acme"),
        (None, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, ("linux", 0), "/var/lib/a/acme"),
        (None, {"STATE_DIRECTORY": "relative"}, ("linux", 0), "/var/lib/gateman/acme"),
        (None, {}, ("darwin", 0), "/Library/Application Support/gateman/acme"),
        (None, {}, ("darwin", 501), "/home/me/Library/Application Support/gateman/acme"),
    ],
)
def test_the_default_is_outside_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
    user: str | int | None,
    environ: dict[str, str],
    where: tuple[str, int],
    expected: str,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    platform, uid = where

    assert default_folder(user, environ=environ, platform=platform, uid=uid) == Path(expected)


MOUNTS = r"""
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw
23 22 0:21 / /run rw - tmpfs tmpfs rw
24 22 8:1 / /data rw,relatime master:1 - ext4 /dev/sda1 rw
25 24 0:22 / /data/my\040cache rw - tmpfs tmpfs rw
26 22 8:2 / /tmp rw - ext4 /dev/sda2 rw
27 22 8:3 / /twice rw - tmpfs tmpfs rw
28 22 8:3 / /twice rw - ext4 /dev/sda3 rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/data/acme", None),
        ("/twice/acme", None),
        (
            "/var/lib/gateman/acme",
            "is in the container's own file system, and is lost with the container",
        ),
        ("/run/acme", "is in memory, and is lost when the machine stops"),
        ("/data/my cache/acme", "is in memory, and is lost when the machine stops"),
        ("/data/tmp/acme", "is in a folder for temporary files, which the system empties"),
    ],
)
def test_a_folder_that_will_be_lost_is_told(folder: str, reason: str | None) -> None:
    assert why_ephemeral(Path(folder), mounts=MOUNTS, temporary="/data/tmp") == reason


def test_a_system_without_mountinfo_is_not_doubted() -> None:
    assert why_ephemeral(Path("/data/acme"), mounts="", temporary="/data/tmp") is None
    assert why_ephemeral(Path("/nowhere/acme")) in {
        None,
        "is in the container's own file system, and is lost with the container",
    }


def test_a_user_without_a_home_has_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a number without a name in a container; that it cannot be made is told then."""
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody-at-all").expanduser())

    assert default_folder(environ={}, platform="linux", uid=1234) == Path("/var/lib/gateman/acme")
