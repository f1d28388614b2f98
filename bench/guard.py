"""
The guard: is this tree slower than a revision before it?

Both are installed into folders of their own and measured in one paired run, side by side and by
turns: echo of 64 B and 16 KiB, ws and wss, plain and async handlers; handshakes; echo through a
gateway; calls of the hub's registry; and idle memory. Ratios are this tree's to the base's, per
CPU-second of the server. It exits with 1 only where a regression is clear: where the median of the
turns is beyond the tolerance, and at least three quarters of them are on the wrong side of 1. Run
it twice before you believe it.

    python bench/guard.py             the last tag, or the commit before; about 5 minutes
    python bench/guard.py REVISION    any other; with QUICK=1 about 2 minutes
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import echo
import gateway
import handshakes
from figures import ratio
from generator import BUILD, HERE, Load, MissingTool, Unmeasured, build
from memory import idle_cost
from peers import GATEMAN, GATEMAN_ASYNC
from subject import Server, conditions
from turns import Turns, take_turns

Case = TypeVar("Case")
Pair = tuple[Server, Server]

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
    """Check out a revision and install it; both stay for the next time."""
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


def paired(base: Path, server: Server) -> tuple[Server, Server]:
    """Pair this tree's server with the base's, which runs its own script: it fits its options."""
    script = base / "tree" / "bench" / "servers" / server.script
    return (
        replace(server, python_path=str(BUILD / "tree")),
        replace(
            server,
            name=f"{server.name}, base",
            script=str(script) if script.exists() else server.script,
            python_path=str(base / "installed"),
        ),
    )


def is_regression(ratios: Sequence[float], *, tolerance: float) -> bool:
    """Tell whether ratios say clearly that something became worse."""
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


def compare(
    question: str, turns: Turns[Case, Load], cases: Sequence[Case], pairs: Sequence[Pair]
) -> list[str]:
    """Compare what was measured, per CPU-second, and name the regressions."""
    worse = []
    for case in cases:
        loads = turns.of(case)
        for why in turns.failures_in(case).values():
            sys.exit(f"nothing can be said: {why}")
        for ours, theirs in pairs:
            what = f"{question}, {case}, {ours.name}"
            ratios = [
                one.per_cpu_second / other.per_cpu_second
                for one, other in zip(loads[ours], loads[theirs], strict=True)
            ]
            if say(what, ratios, tolerance=TOLERANCE):
                worse.append(what)
    return worse


def compare_echo(pairs: Sequence[Pair], *, secure: bool) -> list[str]:
    """Measure echoes, and name the regressions."""
    cases = [case for case in echo.CASES if case.name in {"64 B", "16 KiB"}]
    turns = take_turns(
        [server for pair in pairs for server in pair],
        cases,
        partial(echo.measure, secure=secure, seconds=0.25 if QUICK else 0.5),
        secure=secure,
        starts=2 if QUICK else 3,
        turns=3 if QUICK else 6,
    )
    return compare(f"echo, {'wss' if secure else 'ws'}", turns, cases, pairs)


def compare_handshakes(pair: Pair, *, secure: bool) -> list[str]:
    """Measure handshakes, and name the regressions."""
    kinds = ["wss, full", "wss, resumed"] if secure else ["ws"]
    turns = take_turns(
        pair,
        kinds,
        partial(handshakes.measure, seconds=0.3 if QUICK else 0.7),
        secure=secure,
        starts=1 if QUICK else 2,
        turns=4,
    )
    return compare("handshakes", turns, kinds, [pair])


def compare_gateway(pair: Pair) -> list[str]:
    """Measure echoes through a gateway and a business worker, and name the regressions."""
    cases = gateway.CASES[:2]
    turns = take_turns(
        pair,
        cases,
        partial(gateway.measure, secure=False, seconds=0.5 if QUICK else 1.0),
        secure=False,
        starts=1 if QUICK else 2,
        turns=4,
    )
    return compare("connections, messages under way", turns, cases, [pair])


def hub_time(bench: Path, python_path: Path) -> float:
    """Run a tree's own ``hub.py``, and give the geometric mean of the times that it prints; ns."""
    printed = subprocess.run(
        [sys.executable, str(bench / "hub.py")],
        env={**os.environ, "PYTHONPATH": str(python_path), "QUICK": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    times = re.findall(r"([\d.]+) ns$", printed, re.MULTILINE)
    return statistics.geometric_mean(map(float, times))


def compare_hub(base: Path) -> list[str]:
    """Measure the registry's calls by turns, and name the regression."""
    trees = (HERE, BUILD / "tree"), (base / "tree" / "bench", base / "installed")
    ratios = []
    for _ in range(3 if QUICK else 6):
        ours, theirs = (hub_time(*tree) for tree in trees)
        ratios.append(theirs / ours)
    what = "hub, calls of the registry"
    return [what] if say(what, ratios, tolerance=TOLERANCE) else []


def compare_memory(pair: Pair, *, secure: bool) -> list[str]:
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
        plain, concurrent, behind = (
            paired(folder, server) for server in (GATEMAN, GATEMAN_ASYNC, gateway.GATEWAY)
        )
        print(conditions())
        print(f"this tree to {base}: ratio per CPU-second (memory: less is better)")
        worse = []
        for secure in (False, True):
            worse += compare_echo([plain, concurrent], secure=secure)
        for secure in (False, True):
            worse += compare_handshakes(plain, secure=secure)
        worse += compare_gateway(behind)
        worse += compare_hub(folder)
        for secure in (False, True):
            worse += compare_memory(plain, secure=secure)
    except (MissingTool, Unmeasured) as why:
        sys.exit(str(why))
    if worse:
        sys.exit("clearly worse: " + "; ".join(worse))
    print("no clear regression")


if __name__ == "__main__":
    main()
