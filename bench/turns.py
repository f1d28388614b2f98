"""
Measure servers by turns, so that a change of the machine's pace meets all of them.

They run side by side, and each is measured for a moment, over and over; they are started anew
several times, so that no single memory layout decides.
"""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from figures import Figure, ratio, record
from generator import Load, Option, Unmeasured, run
from peers import versions
from subject import Server, Subject, conditions, cores, running

MAX_TRIES = 3  # of a run, where other processes take all there is

Case = TypeVar("Case")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Turns(Generic[Case, Result]):
    """
    What was measured.

    Attributes:
        results: By case and server, one of each turn.
        failures: Why a server could not be measured in a case.
    """

    results: dict[tuple[Case, Server], list[Result]] = field(default_factory=dict)
    failures: dict[tuple[Case, Server], str] = field(default_factory=dict)

    def of(self, case: Case) -> dict[Server, list[Result]]:
        """Pick the results of those who never failed in a case."""
        return {
            server: results
            for (of, server), results in self.results.items()
            if of == case and (case, server) not in self.failures
        }

    def failures_in(self, case: Case) -> dict[Server, str]:
        """Pick who could not be measured in a case, and why."""
        return {server: why for (of, server), why in self.failures.items() if of == case}


def load_of(server: Server, subject: Subject, *, secure: bool, **options: Option) -> Load:
    """
    Put one server under load, and read what that cost its processes.

    Raises:
        Unmeasured: It cannot be measured, or other processes left no room to do so.
    """
    for _ in range(MAX_TRIES):
        load = run(
            subject.port,
            secure=secure,
            core=cores()[1],
            watch=subject.pids,
            **{**dict(server.load), **options},
        )
        if not load.was_starved:
            return load
    if load.messages and load.server_cpu_seconds:
        return load
    raise Unmeasured("other processes left it no time")


def warm(server: Server, subject: Subject, *, secure: bool) -> None:
    """
    Give a server a moment of load that does not count.

    On glibc a TLS server is slow until its allocator has seen a buffer freed: hence two.
    """
    load_of(server, subject, secure=secure, warm_up=0, duration=0.05)
    load_of(server, subject, secure=secure, connections=20, warm_up=0, duration=0.2)


def take_turns(
    servers: Sequence[Server],
    cases: Sequence[Case],
    measure: Callable[[Server, Subject, Case], Result],
    *,
    secure: bool,
    starts: int,
    turns: int,
    prepare: Callable[..., None] = warm,
) -> Turns[Case, Result]:
    """Measure every server in every case."""
    turn: Turns[Case, Result] = Turns()
    for _ in range(starts):
        with ExitStack() as stack:
            subjects: dict[Server, Subject] = {}
            for server in servers:
                try:
                    subjects[server] = stack.enter_context(running(server, secure=secure))
                    prepare(server, subjects[server], secure=secure)
                except Unmeasured as why:
                    turn.failures.update({(case, server): str(why) for case in cases})
            for number in range(turns):
                # Whoever is behind whom must not decide either.
                order = list(subjects) if number % 2 == 0 else list(reversed(subjects))
                for case in cases:
                    for server in order:
                        _measure(turn, case, server, subjects[server], measure)
    return turn


THROUGHPUT: Mapping[str, Callable[[Load], float]] = {
    "messages per CPU-second": lambda load: load.per_cpu_second,
    "messages per second": lambda load: load.rate,
}


def _measure(
    turns: Turns[Case, Result],
    case: Case,
    server: Server,
    subject: Subject,
    measure: Callable[[Server, Subject, Case], Result],
) -> None:
    place = (case, server)
    if place in turns.failures:
        return
    try:
        turns.results.setdefault(place, []).append(measure(server, subject, case))
    except Unmeasured as why:
        turns.failures[place] = str(why)


def note_loads(loads: Sequence[Load]) -> None:
    """Say what makes the figures worth less than they look."""
    bottleneck = sum(load.was_generator_bottleneck for load in loads)
    if bottleneck:
        print(f"note: the generator was the bottleneck in {bottleneck} of {len(loads)} runs")
    disturbed = sum(load.was_disturbed for load in loads)
    if disturbed:
        print(f"note: other processes disturbed {disturbed} of {len(loads)} runs")


def announce(servers: Sequence[Server]) -> None:
    """Say what the figures depend on."""
    server_core, generator_core = cores()
    print(conditions(), versions(servers), sep="\n")
    print(f"server on core {server_core}, generator on core {generator_core}")
    if server_core == generator_core:
        print("note: there is one core for both: only the figures per CPU-second mean anything")


def report(
    question: str,
    case: str,
    values: Mapping[Server, Sequence[float]],
    *,
    unit: str,
    failures: Mapping[Server, str] | None = None,
    is_less_better: bool = False,
    form: str = ",.0f",
    base: str = "gateman",
) -> None:
    """Print what servers achieved in a case, as figures and as ratios, and record it."""
    figures = [
        Figure(
            question=question,
            case=case,
            server=server.name,
            unit=unit,
            values=list(values.get(server, ())),
            base=base,
            is_less_better=is_less_better,
            why=(failures or {}).get(server, ""),
        )
        for server in {**values, **(failures or {})}
    ]
    record(*figures)
    bases = next((figure.values for figure in figures if figure.server == base), None)
    print(f"\n{question}, {case}: {unit}{f', and the ratio to {base}' if base else ''}")
    for figure in figures:
        if not figure.values:
            print(f"  {figure.server:16}{'not measured':>14}    {figure.why}")
            continue
        one = statistics.median(figure.values)
        compared = ratio(figure.values, bases) if bases else None
        span = f"({min(figure.values):{form}} to {max(figure.values):{form}})"
        print(f"  {figure.server:16}{one:>14{form}}    {span if compared is None else compared}")
    sys.stdout.flush()


def report_loads(
    question: str,
    case: str,
    turns: Turns[Case, Load],
    of: Case,
    ways: Mapping[str, Callable[[Load], float]],
    *,
    is_less_better: bool = False,
) -> None:
    """Report loads of one case in several units."""
    loads = turns.of(of)
    for unit, read in ways.items():
        report(
            question,
            case,
            {server: [read(load) for load in them] for server, them in loads.items()},
            unit=unit,
            failures=turns.failures_in(of),
            is_less_better=is_less_better,
        )
    note_loads([load for them in loads.values() for load in them])
