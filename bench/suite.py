"""
The suite: every question, one table, one picture.

    make bench             all of it, about an hour
    make bench QUICK=1     under three minutes, and less sure

Each question is run by itself, as a file of this folder; what it prints is kept in ``results/``.
What it records (``figures.py``) goes into the table, which holds ratios to gateman: 0.5 is half of
it. A question that records nothing is shown as it printed itself.

    python bench/suite.py echo latency      only these
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import picture
import table
from figures import RECORD, read
from generator import HERE, MissingTool, build

QUICK = bool(os.environ.get("QUICK"))
RESULTS = HERE / "results"
TIMEOUT = 3600.0  # seconds of a question

QUESTIONS = (
    "echo",
    "latency",
    "handshakes",
    "memory",
    "growth",
    "compression",
    "fanout",
    "gateway",
    "bus",
    "hub",
)
# What says nothing about others is asked when there is time.
QUICK_QUESTIONS = tuple(name for name in QUESTIONS if name != "hub")


def ask(name: str, record: Path) -> str:
    """Run a question to its end."""
    began = time.monotonic()
    print(f"{name:14}", end="", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")],
            env={**os.environ, RECORD: str(record)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        print(f"had no end after {TIMEOUT:.0f} s", file=sys.stderr)
        return ""
    took = time.monotonic() - began
    (RESULTS / f"{name}.txt").write_text(done.stdout)
    how = f"ended with {done.returncode} after" if done.returncode else "took"
    print(f"{how} {took:.0f} s", file=sys.stderr)
    return done.stdout


def main() -> None:
    """Ask, and show."""
    try:
        build()
    except MissingTool as missing:
        sys.exit(str(missing))
    RESULTS.mkdir(exist_ok=True)
    record = RESULTS / "figures.jsonl"
    record.unlink(missing_ok=True)
    unrecorded = {}
    for name in sys.argv[1:] or (QUICK_QUESTIONS if QUICK else QUESTIONS):
        if not (HERE / f"{name}.py").exists():
            print(f"{name:14}is not there", file=sys.stderr)
            continue
        known = len(read(record))
        said = ask(name, record)
        if len(read(record)) == known:
            unrecorded[name] = said
    for name, said in unrecorded.items():
        print(f"\n{name}\n\n{said.strip()}")
    figures = read(record)
    print(f"\n{table.form(figures)}")
    (RESULTS / "table.txt").write_text(table.form(figures) + "\n")
    print(f"\n{picture.draw(figures, RESULTS / 'ratios.png')}")


if __name__ == "__main__":
    main()
