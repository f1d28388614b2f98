"""Files that ``acme`` names, and that are not there."""

import re
import sys
import time
from pathlib import Path

import pytest

from gateman import ConfigError, Worker
from gateman.acme.serving import check_files
from gateman.config.worker import settings_of

ROOT = Path(__file__)


def declared(folder: Path, **options: object) -> Worker:
    acme = {"domains": ["a.test"], "storage": str(folder / "acme"), **options}
    return Worker("wss://127.0.0.1:1", acme=acme)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"directory_cafile": "/nowhere/ca.pem"}, "/nowhere/ca.pem cannot be read: write the path"),
        ({"dns": "/nowhere/dns-record"}, "acme.dns: '/nowhere/dns-record' is not a program that"),
        ({"dns": {"command": ["no-such-program"]}}, "'no-such-program' is not a program"),
    ],
)
def test_what_is_missing_is_told_before_an_order(
    tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        settings_of(declared(tmp_path, **options), now=time.time())


def test_what_is_there_is_taken(tmp_path: Path) -> None:
    check_files(())
    worker = declared(tmp_path, directory_cafile=str(ROOT), dns=sys.executable)
    assert settings_of(worker, now=time.time()).acme
