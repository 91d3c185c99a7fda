"""`python -m bench`, or `make bench`: compares the connector with its floors and its rivals, as a table.

Each piece is measured in turn, for several rounds, in its own process (bench/pieces.py), against
one edX sandbox and one Azurite; what counts is the ratio of medians within one run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

import requests
from rich.console import Console
from rich.table import Table

from bench.app import KEY, TOKEN_SETTING
from local.azurite import Azurite
from local.child import Child

CHANGED_PERCENT = 1
RUNS_IN_TWO_COURSES = 3
COLD_STARTS = ("imports", "answer")
SIZES = (1_000, 10_000, 100_000)
PAGE_SIZES = (100, 20)

console = Console(width=100)


class Target(NamedTuple):
    """A target: one piece takes at most `ratio` times as long as another."""

    piece: str
    floor: str
    ratio: float


TARGETS = (
    Target("first sync", "write", 1.25),
    Target("unchanged sync", "pull", 1.25),
    Target("1 % changed", "pull", 1.4),
    Target("first sync", "dlt", 0.6),
    Target("answer", "read", 4),
    Target("cold answer", "cold imports", 1.3),
)
PEAK_MB = 100


class Measurements:
    """The measured seconds, CPU seconds and peak memory (MB) of each piece."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.cpu_s: dict[str, list[float]] = defaultdict(list)
        self.peak_mb: dict[str, float] = {}

    def run(self, piece: str, settings: dict[str, str], name: str = "") -> None:
        """Measure a piece once more; store the result under `name` if it is given."""
        printed = json.loads(_python(settings, "bench.pieces", piece))
        for part, (seconds, cpu_s) in printed["took"].items():
            self.note(name or part, seconds)
            self.cpu_s[name or part].append(cpu_s)
            self.peak_mb[name or part] = max(self.peak_mb.get(name or part, 0), printed["peak_mb"])

    def note(self, name: str, seconds: float) -> None:
        self.seconds[name].append(seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


class World:
    """A sandbox with a large catalogue and an Azurite, for processes that are given `settings`."""

    def __init__(self, sandbox_url: str, settings: dict[str, str], courses: int) -> None:
        self._sandbox_url = sandbox_url
        self._settings = settings
        self._courses = courses
        self._control({"warm": PAGE_SIZES[0]})

    def settings(self, prefix: str) -> dict[str, str]:
        """Return settings with their own table prefix."""
        return {**self._settings, "TABLES_PREFIX": prefix}

    def warm(self, page_size: int) -> None:
        """Make the sandbox generate its pages in advance, so that their time is not measured."""
        self._control({"warm": page_size})

    def change(self, max_effort: int) -> None:
        """Change one run in a hundred."""
        every = 100 * 2 // RUNS_IN_TWO_COURSES // CHANGED_PERCENT
        keys = [f"course-v1:LoadX+{number:06}+1" for number in range(0, self._courses, every)]
        self._control({"alter_runs": {key: {"max_effort": max_effort} for key in keys}})

    def _control(self, changes: dict[str, Any]) -> None:
        url = f"{self._sandbox_url}sandbox/catalogs/1"
        requests.post(url, json=changes, timeout=600).raise_for_status()


@contextmanager
def world(courses: int, latency_ms: float) -> Iterator[World]:
    command = [sys.executable, "-m", "local.sandbox", f"--courses={courses}", f"--latency-ms={latency_ms}"]
    sandbox = Child(command)
    try:
        url = sandbox.wait_until_ready(r"edX sandbox at (\S+)", 60)[1]
        sandbox.wait_until_ready("^Knobs", 60)
        settings = dict(line.split("=", 1) for line in sandbox.lines if line.startswith(("EDX_", "ADMIN_")))
        settings[TOKEN_SETTING] = requests.post(f"{url}mint", json={}, timeout=60).text.strip()
        with Azurite() as azurite:
            settings |= {
                "APIM_SUBSCRIPTION_KEYS": KEY,
                "EDX_CATALOG_IDS": "1",
                "TABLES_CONNECTION_STRING": azurite.connection_string,
            }
            here = World(url, settings, courses)
            # Azurite is slower in its first seconds, which must not be measured.
            Measurements().run("write", here.settings("Warm"))
            yield here
    finally:
        sandbox.stop()


def compare(courses: int, latency_ms: float, rounds: int, *, rivals: bool) -> Measurements:
    """Measure everything in turn, `rounds` times."""
    taken = Measurements()
    with world(courses, latency_ms) as here:
        for number in range(rounds):
            console.print(f"Round {number + 1} of {rounds} …", style="dim")
            settings = here.settings(f"Bench{number}x")
            taken.run("pull", settings)
            taken.run("write", settings)
            taken.run("sync", settings, "first sync")
            taken.run("sync", settings, "unchanged sync")
            taken.run("answers", settings)
            for what in COLD_STARTS * 3:  # short, so that one alone tells little
                taken.note(f"cold {what}", float(_python(settings, "bench.cold", what)))
            if rivals:
                here.warm(PAGE_SIZES[1])
                for rival in ("dlt", "sequential", "quick_script"):
                    taken.run(rival, settings)
            here.change(max_effort=10 + number)
            here.warm(PAGE_SIZES[0])
            taken.run("sync", settings, "1 % changed")
    return taken


def show_comparison(taken: Measurements) -> None:
    pieces = Table("", "median s", "least to most", "CPU s", "peak MB", title="What each piece took")
    for name, seconds in taken.seconds.items():
        cpu_s, peak = taken.cpu_s.get(name), taken.peak_mb.get(name)
        pieces.add_row(
            name,
            f"{taken.median(name):.4g}",
            f"{min(seconds):.4g} to {max(seconds):.4g}",
            "" if cpu_s is None else f"{statistics.median(cpu_s):.3g}",
            "" if peak is None else f"{peak:.0f}",
        )
    console.print(pieces)
    targets = Table("", "ratio of medians", "of the least", "at most", "", title="Against the targets")
    for piece, floor, at_most in TARGETS:
        if floor in taken.seconds:
            ratio = taken.median(piece) / taken.median(floor)
            least = min(taken.seconds[piece]) / min(taken.seconds[floor])
            targets.add_row(
                f"{piece} ÷ {floor}", f"{ratio:.2f}", f"{least:.2f}", f"{at_most}", _verdict(ratio <= at_most)
            )
    peak = max(taken.peak_mb[name] for name in ("first sync", "unchanged sync", "1 % changed"))
    targets.add_row("peak memory of a sync, MB", f"{peak:.0f}", "", f"{PEAK_MB}", _verdict(peak <= PEAK_MB))
    console.print(targets)


def show_sizes(latency_ms: float, rounds: int) -> None:
    """Show the cost per run for catalogues of several sizes."""
    names = ("write", "pull", "first sync", "unchanged sync")
    table = Table("runs", *names, "peak MB", title="Milliseconds a run (seconds in all), medians")
    for runs in SIZES:
        console.print(f"{runs:,} runs …", style="dim")
        taken = Measurements()
        with world(runs * 2 // RUNS_IN_TWO_COURSES, latency_ms) as here:
            for number in range(rounds):
                settings = here.settings(f"Bench{number}x")
                taken.run("pull", settings)
                taken.run("write", settings)
                taken.run("sync", settings, "first sync")
                taken.run("sync", settings, "unchanged sync")
        costs = [f"{taken.median(name) * 1000 / runs:.3f} ({taken.median(name):.1f})" for name in names]
        table.add_row(f"{runs:,}", *costs, f"{max(taken.peak_mb[name] for name in names[2:]):.0f}")
    console.print(table)


def describe_machine() -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("azure-data-tables", "pydantic", "requests"))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    console.print(f"Load average before: {load}")


def _verdict(met: bool) -> str:  # noqa: FBT001 - its only argument
    return "[green]met[/]" if met else "[red]missed[/]"


def _python(settings: dict[str, str], module: str, argument: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", module, argument],
        env={"PATH": os.environ["PATH"], **settings},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the connector.")
    parser.add_argument(
        "--courses", type=int, default=4_000, help="number of courses; every two courses have three runs"
    )
    parser.add_argument(
        "--latency-ms", type=float, default=80, help="minimum milliseconds of each request to edX"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-rivals", action="store_true", help="the connector and its floors only")
    parser.add_argument("--sizes", action="store_true", help="show how cost grows with the catalogue instead")
    options = parser.parse_args()
    describe_machine()
    if options.sizes:
        show_sizes(options.latency_ms, options.rounds)
    else:
        show_comparison(
            compare(options.courses, options.latency_ms, options.rounds, rivals=not options.no_rivals)
        )


if __name__ == "__main__":
    main()
