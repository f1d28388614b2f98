"""
The least that everybody gets what anybody says can cost: one ``SSL_write`` or ``send`` each, in C.

The ceiling for one message to many; it is compiled at the first use.
"""

import os
import sys
from pathlib import Path

import command_line

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from generator import build  # noqa: E402 - found beside the folder of servers


def main() -> None:
    """Read the arguments, and become the server."""
    arguments = command_line.parser(__doc__).parse_args()
    binary = build(HERE / "bare_crowd.c")
    words = [str(binary), str(arguments.port)]
    if arguments.certificate:
        words.append(arguments.certificate)
    os.execv(binary, words)  # noqa: S606 - what was built just now


if __name__ == "__main__":
    main()
