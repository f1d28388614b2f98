"""
Start-up and idleness: what users wait for, and what a service costs while nobody comes.

    python bench/startup.py              everything
    python bench/startup.py --idle 0     without the half minute of idleness

Three figures:

* What ``import gateman`` costs a fresh interpreter: the median of several that import it, less the
  median of as many that import nothing, by turns.
* From ``python server.py start`` until both of its processes serve: the median of several starts
  with ``count=2``, over ws and over wss.
* The processor time that the master, the router of the bus and each process take while nobody is
  connected, from /proc/PID/schedstat.

With compiled bytecode in place, as on any start but the first.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
from gateman import Worker

worker = Worker("{scheme}://127.0.0.1:0", {context}count=2)

@worker.on_message
def answer(connection, message):
    connection.send("ok")

Worker.run_all()
"""


def seconds(code: str) -> float:
    """Time one interpreter from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def measure_import(module: str, runs: int) -> None:
    """Print what an import costs."""
    statement = f"import {module}"
    seconds(statement)  # writes the bytecode and fills the page cache
    loaded, bare = [], []
    for _ in range(runs):
        loaded.append(seconds(statement))
        bare.append(seconds(""))
    cost = statistics.median(loaded) - statistics.median(bare)
    print(
        f"{statement}: {cost:.3f} s over a bare interpreter"
        f" ({statistics.median(bare):.3f} s; slowest import {max(loaded):.3f} s in all,"
        f" {runs} runs)"
    )


def write_script(folder: Path, scheme: str) -> None:
    """Write a service with two processes."""
    context = ""
    if scheme == "wss":
        gateman = [sys.executable, "-m", "gateman"]
        subprocess.run(
            [*gateman, "cert", "dev", "--out", str(folder)],
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        files = {"local_cert": f"{folder}/server.pem", "local_pk": f"{folder}/server.key"}
        context = f"{ {'ssl': files}!r}, "
    (folder / "server.py").write_text(SCRIPT.format(scheme=scheme, context=context))


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, float]]:
    """Start the service; gives its pid, and how long it took until it served."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "server.py", "start"], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as process:
        if process.stderr is None or "listens on" not in process.stderr.readline():
            raise RuntimeError("the service does not start")
        took = time.perf_counter() - began
        try:
            yield process.pid, took
        finally:
            process.terminate()


def measure_start(scheme: str, runs: int) -> None:
    """Print how long a start takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_script(folder, scheme)
        took = []
        for _ in range(runs + 1):
            with running(folder) as (_, once):
                took.append(once)
    del took[0]
    print(
        f"python server.py start, count=2, {scheme}: {statistics.median(took):.3f} s until it"
        f" serves ({min(took):.3f} to {max(took):.3f} s, {runs} runs)"
    )


def cpu(pid: int) -> float:
    """Tell how much processor time all threads of a process have taken, in seconds."""
    stats = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(stat[0]) for stat in stats) / 1e9


def measure_idleness(duration: float) -> None:
    """Print what an idle service takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_script(folder, "ws")
        with running(folder) as (master, _):
            time.sleep(2)  # until everything that follows a start is over
            children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
            pids = {"master": master}
            for number, child in enumerate(children):
                # The router is the first that a master starts.
                pids["router" if number == 0 else f"process {number - 1}"] = int(child)
            before = {who: cpu(pid) for who, pid in pids.items()}
            time.sleep(duration)
            for who, pid in pids.items():
                share = (cpu(pid) - before[who]) / duration
                print(f"idle for {duration:g} s, {who}: {share:.3%} of a core")


def main() -> None:
    """Read the arguments, measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--module", default="gateman")
    parser.add_argument("--idle", type=float, default=30.0, metavar="SECONDS")
    arguments = parser.parse_args()
    measure_import(arguments.module, arguments.runs)
    for scheme in ("ws", "wss"):
        measure_start(scheme, arguments.runs)
    if arguments.idle:
        measure_idleness(arguments.idle)


if __name__ == "__main__":
    main()
