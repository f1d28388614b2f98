"""
Run the property tests again and again, each time with other examples, for a number of seconds.

    python -m tests.fuzz 60
    python -m tests.fuzz 600 tests/fuzz tests/websocket

It ends with 0 when the time is over, and otherwise with what pytest ended with, which has shown
the example that failed and how to run it again.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The last says where the time is looked at.
OPTIONS = ["-q", "-x", "-p", "no:cacheprovider", "--timeout=0", "-p", "tests.fuzz.clock"]


def main(seconds: float, paths: list[str]) -> int:
    """
    Fuzz.

    Args:
        seconds: How long; the last test is let end.
        paths: Files and folders with tests.

    Returns:
        The exit code.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        command = [sys.executable, "-m", "pytest", *OPTIONS, f"--fuzz-until={until}", *paths]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    words = sys.argv[1:] or ["60"]
    sys.exit(main(float(words[0]), words[1:] or ["tests"]))
