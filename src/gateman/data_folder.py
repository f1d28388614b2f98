"""The folder for what a user's programs keep."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def data_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return gateman's folder in the user's home."""
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gateman"
    # XDG Base Directory Specification: relative paths are ignored.
    declared = Path(environ.get("XDG_DATA_HOME", ""))
    return (declared if declared.is_absolute() else Path.home() / ".local" / "share") / "gateman"
