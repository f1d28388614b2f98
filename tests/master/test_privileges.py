"""The users that processes run as."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from gateman import ConfigError
from gateman.master.privileges import Identity, find, unreadable
from tests.support.deadlines import TIMEOUT

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


def test_no_other_user_is_looked_up() -> None:
    """Without a user, and with one's own, nothing changes."""
    assert find(None, None) is None
    assert find(os.geteuid(), os.getegid()) is None


@pytest.mark.parametrize(
    ("user", "group", "kind"), [("no-such", None, "user"), (None, "no-such", "group")]
)
def test_an_account_that_does_not_exist(user: str | None, group: str | None, kind: str) -> None:
    """The sentence names what was declared."""
    with pytest.raises(ConfigError, match=f"^{kind}='no-such': there is no such {kind}"):
        find(user, group)


@needs_root
def test_names_and_numbers() -> None:
    """A user brings its group, unless another is named; a number needs no name."""
    nobody = pwd.getpwnam("nobody")

    assert find("nobody", None) == Identity(
        user="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid, home=nobody.pw_dir
    )
    assert find(str(nobody.pw_uid), None) == find("nobody", None)
    assert find("nobody", "root") == Identity(
        user="nobody", uid=nobody.pw_uid, gid=0, home=nobody.pw_dir
    )
    assert find(54321, None) == Identity(user="54321", uid=54321, gid=54321)
    assert find(None, 54321) == Identity(user="root", uid=0, gid=54321, home="/root")


@needs_root
def test_switching_the_user_is_permanent() -> None:
    """User, group and all other groups are given up; only root can switch to another user."""
    code = (
        "import os\\nfrom gateman import ConfigError\\n"
        "from gateman.master.privileges import switch_to, find, unreadable\\n"
        "switch_to(find(54321, 54322), os.environ)\\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\\n"
        "try:\\n    find('nobody', None)\\n"
        "except ConfigError as error:\\n    print(error)\\n"
    ).replace("\\n", "\n")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT
    )

    assert done.stdout.splitlines() == [
        "(54321, 54321, 54321) (54322, 54322, 54322) [54322]",
        "only root can start processes with user='nobody': start the service as root, or leave it"
        " out and start the service as that user.",
    ]


def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    """What is not there cannot be read either."""
    there = tmp_path / "there"
    there.write_text("")

    assert unreadable([there, tmp_path / "not there"]) == [tmp_path / "not there"]


@needs_root
@pytest.mark.parametrize(
    ("user", "home"), [("daemon", pwd.getpwnam("daemon").pw_dir), ("54321", "/")]
)
def test_the_environment_is_the_new_user_s(user: str, home: str) -> None:
    """What a library keeps in its user's home is neither read from root's nor written there."""
    code = (
        "import os, sys\n"
        "from gateman.master.privileges import switch_to, find\n"
        "switch_to(find(sys.argv[1], None), os.environ)\n"
        "print(os.environ['HOME'], os.environ['USER'], os.environ['LOGNAME'],\n"
        "      os.path.expanduser('~'), [name for name in os.environ if name[:4] == 'XDG_'])\n"
    )
    environment = {**os.environ, "HOME": "/root", "USER": "root", "XDG_RUNTIME_DIR": "/run/user/0"}
    environment["XDG_CONFIG_HOME"] = "/root/.config"
    done = subprocess.run(
        [sys.executable, "-c", code, user],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
        env=environment,
    )

    assert done.stdout == f"{home} {user} {user} {home} []\n"
