"""
The least that answers can cost: one ``SSL_write`` or ``send`` for each message, in C.

The ceiling for any server, and for one message to many; it is compiled at the first use.
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
    parser = command_line.parser(__doc__)
    parser.add_argument("--crowd", action="store_true", help="send what comes to all")
    arguments = parser.parse_args()
    binary = build(HERE / "bare.c")
    words = [str(binary), "crowd" if arguments.crowd else "echo", str(arguments.port)]
    if arguments.certificate:
        words.append(arguments.certificate)
    os.execv(binary, words)  # noqa: S606 - what was built just now


if __name__ == "__main__":
    main()
