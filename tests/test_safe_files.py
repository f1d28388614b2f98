"""Files that are opened where another user may have put a link in their place."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateman.safe_files import check_folder, open_file
from tests.support.deadlines import TIMEOUT
from tests.support.users import DAEMON, NOBODY, folder_of, needs_root

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def append(path: Path) -> None:
    """Write a line at the end of a file."""
    with os.fdopen(open_file(path, APPEND), "w") as file:
        file.write("line\n")


def test_a_file_is_made(tmp_path: Path) -> None:
    """With the mode that was asked for, and blocking."""
    path = tmp_path / "a" / ".." / "log"
    (tmp_path / "a").mkdir()
    fd = open_file(path, APPEND, 0o640)

    assert os.get_blocking(fd)
    os.close(fd)
    assert path.stat().st_mode & 0o777 == 0o640


def test_links_of_this_user_are_followed(tmp_path: Path) -> None:
    """Relative and absolute ones, of files and of folders."""
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real" / "log").symlink_to(tmp_path / "end")
    append(tmp_path / "folder" / "log")

    assert (tmp_path / "end").read_text() == "line\n"


def test_links_in_circles(tmp_path: Path) -> None:
    """They end."""
    (tmp_path / "log").symlink_to("log")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        append(tmp_path / "log")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_has_a_path(name: str) -> None:
    """It may be a pipe, which has no path."""
    code = (
        "import os\nfrom pathlib import Path\nfrom gateman.safe_files import open_file\n"
        f"os.write(open_file(Path({name!r}), os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=TIMEOUT
    )

    assert done.stdout == b"here"


def _link(folder: Path, precious: Path) -> Path:
    (folder / "log").symlink_to(precious)
    return folder / "log"


def _hard_link(folder: Path, precious: Path) -> Path:
    (folder / "log").hardlink_to(precious)
    return folder / "log"


def _folder_link(folder: Path, precious: Path) -> Path:
    (folder / "logs").symlink_to(precious.parent)
    return folder / "logs" / precious.name


def _pipe(folder: Path, _precious: Path) -> Path:
    os.mkfifo(folder / "log")
    return folder / "log"


def _file_of_a_third(folder: Path, _precious: Path) -> Path:
    (folder / "log").write_text("")
    os.chown(folder / "log", DAEMON, DAEMON)
    return folder / "log"


@needs_root
@pytest.mark.parametrize("make", [_link, _hard_link, _folder_link, _pipe, _file_of_a_third])
def test_what_another_user_may_have_made_is_not_opened(
    tmp_path: Path, make: Callable[[Path, Path], Path]
) -> None:
    """In a folder of that user, links to other folders are refused, whichever user made them."""
    precious = folder_of(0, tmp_path / "etc") / "precious"
    precious.write_text("words")
    path = make(folder_of(NOBODY, tmp_path / "logs"), precious)
    with pytest.raises(OSError, match=r"another user may have|No such device"):
        append(path)

    assert precious.read_text() == "words"


@needs_root
def test_a_plain_file_in_another_user_s_folder(tmp_path: Path) -> None:
    """It is made; and one that the folder's owner has made, as logrotate does, is written to."""
    folder = folder_of(NOBODY, tmp_path / "logs")
    append(folder / "log")
    (folder / "rotated").write_text("")
    os.chown(folder / "rotated", NOBODY, NOBODY)
    append(folder / "rotated")

    assert ((folder / "log").read_text(), (folder / "rotated").read_text()) == ("line\n", "line\n")


@needs_root
def test_links_in_a_sticky_folder(tmp_path: Path) -> None:
    """In one such as /tmp, ours are followed and those of others are not."""
    folder = folder_of(0, tmp_path / "tmp", 0o1777)
    (folder / "ours").symlink_to(tmp_path / "end")
    (folder / "theirs").symlink_to(tmp_path / "end")
    os.chown(folder / "theirs", NOBODY, NOBODY, follow_symlinks=False)
    append(folder / "ours")
    with pytest.raises(PermissionError, match="another user may have made a link"):
        append(folder / "theirs")

    assert (tmp_path / "end").read_text() == "line\n"


def test_a_folder_of_this_user_alone(tmp_path: Path) -> None:
    """Under a sticky folder for all, which /tmp is; links are resolved."""
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("real")
    check_folder(tmp_path / "link" / "file")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_a_folder_for_all(tmp_path: Path, mode: int) -> None:
    """Others could put files beside ours there, or replace the folder itself."""
    (tmp_path / "shared" / "inner").mkdir(parents=True)
    (tmp_path / "shared").chmod(mode)
    with pytest.raises(PermissionError, match="another user may write to"):
        check_folder(tmp_path / "shared" / "file")
    if mode & 0o1000:
        check_folder(tmp_path / "shared" / "inner" / "file")
    else:
        with pytest.raises(PermissionError, match="another user may write to"):
            check_folder(tmp_path / "shared" / "inner" / "file")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """It is not made."""
    with pytest.raises(FileNotFoundError):
        check_folder(tmp_path / "none" / "file")
