"""
Writes metrics in Prometheus's text format, and in that of OpenMetrics. PURE.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator

from .families import Family

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
# OpenMetrics escapes all of these everywhere.
_IN_OPEN_HELP = _IN_LABEL


def write(families: Iterable[Family], *, is_open: bool = False) -> str:
    """Write families; ``is_open`` for OpenMetrics."""
    lines: list[str] = []
    for family in families:
        # In OpenMetrics, `_total` belongs to the sample, and not to the family.
        is_short = is_open and family.kind == "counter"
        name = family.name.removesuffix("_total") if is_short else family.name
        text = family.description.translate(_IN_OPEN_HELP if is_open else _IN_HELP)
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {family.kind}")
        for values, numbers in family.series:
            labels = [
                f'{label}="{value.translate(_IN_LABEL)}"'
                for label, value in zip(family.labels, values, strict=True)
            ]
            if family.kind == "histogram":
                lines += _histogram(family, labels, numbers)
            else:
                lines.append(f"{family.name}{_braces(labels)} {_number(numbers[0])}")
    if is_open:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def _histogram(family: Family, labels: list[str], numbers: list[float]) -> Iterator[str]:
    count = 0.0
    bounds = [*(repr(float(bound)) for bound in family.bounds), "+Inf"]
    for bound, number in zip(bounds, numbers, strict=False):
        count += number
        within = f'le="{bound}"'
        yield f"{family.name}_bucket{_braces([*labels, within])} {_number(count)}"
    yield f"{family.name}_sum{_braces(labels)} {_number(numbers[-1])}"
    yield f"{family.name}_count{_braces(labels)} {_number(count)}"


def _braces(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""


def _number(number: float) -> str:
    is_whole = number == int(number) and abs(number) < 1e15
    return str(int(number)) if is_whole else repr(float(number))
