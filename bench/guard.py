"""
The guard: is this tree slower than a revision before it?

Both are installed into folders of their own and measured in one paired run, side by side and by
turns: echo of 64 B and 16 KiB, ws and wss, plain and async handlers; and idle memory. Ratios are
this tree's to the base's, per CPU-second of the server. It exits with 1 only where a regression is
clear: where the median of the turns is beyond the tolerance, and at least three quarters of them
are on the wrong side of 1. Run it twice before you believe it.

    python bench/guard.py             the last tag, or the commit before; about 3 minutes
    python bench/guard.py REVISION    any other; with QUICK=1 about 1 minute
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from echo import CASES, measure
from figures import ratio
from generator import BUILD, HERE, MissingTool, Unmeasured, build
from memory import idle_cost
from peers import GATEMAN, GATEMAN_ASYNC
from subject import Server, conditions
from turns import take_turns

QUICK = bool(os.environ.get("QUICK"))
ROOT = HERE.parent

TOLERANCE = 0.95  # a median ratio of throughput below is a regression
MEMORY_TOLERANCE = 1.08  # one of memory above
WRONG_SHARE = 0.75  # of the turns, at least


def git(*words: str) -> str:
    """Ask git about this tree; empty where it does not know."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def previous() -> str:
    """Choose what to compare with: the last release, or the last state that was committed."""
    tag = git("describe", "--tags", "--abbrev=0", "HEAD")
    if tag and git("rev-parse", f"{tag}^{{commit}}") != git("rev-parse", "HEAD"):
        return tag
    return "HEAD" if git("status", "--porcelain", "--", "src") else "HEAD~1"


def install(source: Path, to: Path) -> None:
    """Install a tree, without what it depends on, so that nothing else can be imported."""
    shutil.rmtree(to, ignore_errors=True)
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(to)]
    subprocess.run([*words, str(source)], check=True)


def install_base(revision: str) -> Path:
    """
    Check out a revision and install it; both stay for the next time.

    Args:
        revision: As git knows it.

    Returns:
        The folder that has ``tree`` and ``installed`` in it.
    """
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}")
    if not commit:
        sys.exit(f"git knows no revision {revision}: name one with BASE=")
    folder = BUILD / "base" / commit[:12]
    if not (folder / "installed" / "gateman").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git("worktree", "prune")
        if not (folder / "tree").exists():
            words = ["git", "-C", str(ROOT), "worktree", "add", "--detach", "--force"]
            subprocess.run(
                [*words, str(folder / "tree"), commit], check=True, stdout=subprocess.DEVNULL
            )
        install(folder / "tree", folder / "installed")
    return folder


def servers(base: Path) -> list[tuple[Server, Server]]:
    """Pair this tree's servers with the base's, which run its own script: it fits its options."""
    ours, theirs = str(BUILD / "tree"), str(base / "installed")
    script = base / "tree" / "bench" / "servers" / GATEMAN.script
    path = str(script) if script.exists() else GATEMAN.script
    return [
        (
            replace(server, python_path=ours),
            replace(server, name=f"{server.name}, base", script=path, python_path=theirs),
        )
        for server in (GATEMAN, GATEMAN_ASYNC)
    ]


def is_regression(ratios: Sequence[float], *, tolerance: float) -> bool:
    """
    Tell whether ratios say clearly that something became worse.

    Args:
        ratios: This tree's figures to the base's, of each turn.
        tolerance: What the median may be: below 1 for what should be much, else above.
    """
    if tolerance < 1:
        beyond, wrong = statistics.median(ratios) < tolerance, [one < 1 for one in ratios]
    else:
        beyond, wrong = statistics.median(ratios) > tolerance, [one > 1 for one in ratios]
    return beyond and sum(wrong) >= WRONG_SHARE * len(wrong)


def say(what: str, ratios: Sequence[float], *, tolerance: float) -> bool:
    """Print a line, and tell whether it is a regression."""
    is_worse = is_regression(ratios, tolerance=tolerance)
    compared = ratio(ratios, [1.0] * len(ratios))
    print(f"{what:44}{compared}{'   WORSE' if is_worse else ''}", flush=True)
    return is_worse


def compare_echo(pairs: list[tuple[Server, Server]], *, secure: bool) -> list[str]:
    """Measure echoes, and name the regressions."""
    cases = [case for case in CASES if case.name in {"64 B", "16 KiB"}]
    turns = take_turns(
        [server for pair in pairs for server in pair],
        cases,
        partial(measure, secure=secure, seconds=0.25 if QUICK else 0.5),
        secure=secure,
        starts=2 if QUICK else 3,
        turns=3 if QUICK else 6,
    )
    worse = []
    for case in cases:
        loads = turns.of(case)
        for why in turns.failures_in(case).values():
            sys.exit(f"nothing can be said: {why}")
        for ours, theirs in pairs:
            what = f"echo, {'wss' if secure else 'ws'}, {case.name}, {ours.name}"
            ratios = [
                one.per_cpu_second / other.per_cpu_second
                for one, other in zip(loads[ours], loads[theirs], strict=True)
            ]
            if say(what, ratios, tolerance=TOLERANCE):
                worse.append(what)
    return worse


def compare_memory(pair: tuple[Server, Server], *, secure: bool) -> list[str]:
    """Measure idle connections, and name the regressions."""
    count, repeats = (300, 1) if QUICK else (1000, 2)
    what = f"memory, {'wss' if secure else 'ws'}, {count:,} idle"
    ratios = []
    for _ in range(repeats):
        ours, theirs = (idle_cost(one, count, secure=secure, touch=True) for one in pair)
        ratios.append(ours / theirs)
    return [what] if say(what, ratios, tolerance=MEMORY_TOLERANCE) else []


def main() -> None:
    """Compare, and exit with 1 where this tree is clearly worse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="a revision")
    base = parser.parse_args().base or previous()
    try:
        build()
        folder = install_base(base)
        install(ROOT, BUILD / "tree")
        pairs = servers(folder)
        print(conditions())
        print(f"this tree to {base}: ratio per CPU-second (memory: less is better)")
        worse = []
        for secure in (False, True):
            worse += compare_echo(pairs, secure=secure)
        for secure in (False, True):
            worse += compare_memory(pairs[0], secure=secure)
    except (MissingTool, Unmeasured) as why:
        sys.exit(str(why))
    if worse:
        sys.exit("clearly worse: " + "; ".join(worse))
    print("no clear regression")


if __name__ == "__main__":
    main()
