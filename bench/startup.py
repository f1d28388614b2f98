"""
Start-up: what ``import gateman`` costs a fresh interpreter.

The median of several interpreters that import it, less the median of as many that import
nothing; both by turns, with compiled bytecode in place.

    python bench/startup.py
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(code: str) -> float:
    """Time one interpreter from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Read the arguments, measure, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--module", default="gateman")
    arguments = parser.parse_args()
    statement = f"import {arguments.module}"
    seconds(statement)  # writes the bytecode and fills the page cache
    loaded, bare = [], []
    for _ in range(arguments.runs):
        loaded.append(seconds(statement))
        bare.append(seconds(""))
    cost = statistics.median(loaded) - statistics.median(bare)
    print(
        f"{statement}: {cost:.3f} s over a bare interpreter"
        f" ({statistics.median(bare):.3f} s; slowest import {max(loaded):.3f} s in all,"
        f" {arguments.runs} runs)"
    )


if __name__ == "__main__":
    main()
