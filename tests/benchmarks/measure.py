"""Measuring ways of doing the same thing side by side: alternating rounds, medians, and ratios with intervals."""

import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, cast

Way = Callable[[], object]
"""One way of doing the job. What it returns as a float is its time in seconds; otherwise the call is timed."""
RESAMPLES = 2000


@dataclass
class Row:
    """The result of one comparison.

    Attributes:
        title: the job.
        ours: name of the way that is aezoo's.
        base: name of the way that it is compared with.
        kind: `overhead`, our time over that of the base; or `speedup`, the time of the base over ours.
        aim: the ratio to reach: at most it for an overhead, at least it for a speedup; None without one.
        includes: what is inside the measured time, such as the optimizer or validation.
        seconds: median seconds by way; None if a way could not run.
        ratio: median over the rounds of the ratio; None if it could not be measured.
        interval: 95 % bootstrap interval of the median.
        reason: why there is no ratio.
        unit: of `seconds`: `s` or `MB`.
    """

    title: str
    ours: str
    base: str
    kind: Literal["overhead", "speedup"]
    aim: float | None
    includes: str
    seconds: dict[str, float | None] = field(default_factory=dict[str, float | None])
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None
    unit: Literal["s", "MB"] = "s"

    @property
    def reached(self) -> bool | None:
        """Whether the interval reaches the aim; None without an aim or a ratio."""
        if self.aim is None or self.interval is None:
            return None
        low, high = self.interval
        return low <= self.aim if self.kind == "overhead" else high >= self.aim

    def as_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self) | {"reached": self.reached}


def compare(
    title: str,
    ways: Mapping[str, Way | None],
    *,
    ours: str,
    bases: Mapping[str, tuple[Literal["overhead", "speedup"], float | None]],
    includes: str,
    rounds: int = 9,
    reasons: Mapping[str, str] | None = None,
) -> list[Row]:
    """Runs the ways in turn, in an order that changes with every round, and compares ours with each base.

    The first round is a warm-up. A ratio is taken within each round, so that a slow minute of the machine
    slows both of its sides.

    Args:
        title: the job.
        ways: name -> way; None for one that cannot run here.
        ours: name of aezoo's way.
        bases: name -> (kind, aim) of each row.
        includes: what is inside the measured time.
        rounds: measured rounds.
        reasons: name -> why a way is None.
    """
    times: dict[str, list[float]] = {name: [] for name, way in ways.items() if way is not None}
    failed = dict(reasons or {})
    order = random.Random(0)
    for round_ in range(rounds + 1):
        names = list(times)
        order.shuffle(names)
        for name in names:
            way = ways[name]
            assert way is not None
            start = time.perf_counter()
            try:
                found = way()
            except Exception as error:  # a peer that fails leaves its own row empty
                if name == ours:
                    raise
                failed[name] = (str(error).splitlines() or [type(error).__name__])[0][:200]
                del times[name]
                continue
            seconds = found if isinstance(found, float) else time.perf_counter() - start
            if round_ > 0:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows: list[Row] = []
    for base, (kind, aim) in bases.items():
        row = Row(title, ours, base, kind, aim, includes)
        row.seconds = {ours: medians[ours], base: medians.get(base)}
        if base in times:
            pairs = zip(times[ours], times[base], strict=True)
            ratios = [a / b if kind == "overhead" else b / a for a, b in pairs]
            row.ratio, row.interval = statistics.median(ratios), interval(ratios)
        else:
            row.reason = failed.get(base, "not run")
        rows.append(row)
    return rows


def interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]


def slope(curve: Sequence[Sequence[float]]) -> float:
    """The exponent of a power law fitted to the larger half of pairs (size, value)."""
    half = curve[len(curve) // 2 :]
    x, y = ([math.log(pair[i]) for pair in half] for i in range(2))
    return statistics.linear_regression(x, y).slope


class Peer:
    """A process of another environment that runs named ways on request.

    The script reads names from standard input, one per line, and answers each with a line of JSON: the
    seconds that the way took, or an object with an `error`.

    Args:
        python: interpreter of the environment.
        script: the file to run.
        arguments: given to the script.
    """

    def __init__(self, python: Path, script: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", str(script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def way(self, name: str) -> Callable[[], float]:
        """A way that runs `name` in the peer's process."""

        def run() -> float:
            stdin, stdout = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
            stdin.write(name + "\n")
            stdin.flush()
            line = stdout.readline()
            if not line:
                raise RuntimeError(f"the peer's process ended with status {self.process.wait()}")
            answer = json.loads(line)
            if isinstance(answer, dict):
                raise RuntimeError(str(cast(dict[str, Any], answer)["error"]))
            return float(answer)

        return run

    def close(self) -> None:
        """Ends the process."""
        cast(IO[str], self.process.stdin).close()
        self.process.wait(timeout=30)


def serve(ways: Mapping[str, Way]) -> None:
    """Runs the named ways that standard input asks for: the other side of `Peer`."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        start = time.perf_counter()
        try:
            found = ways[line.strip()]()
        except Exception as error:
            answer: object = {"error": f"{type(error).__name__}: {error}"}
        else:
            answer = found if isinstance(found, float) else time.perf_counter() - start
        print(json.dumps(answer), file=answers, flush=True)
