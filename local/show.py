"""Shows a sync on the console: its steps, the reports, the course runs."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from shared.domain.course_run import Rejection
from shared.domain.sync_report import SyncReport

_WIDE = 80  # columns of a console
_RUNS_SHOWN = 12
_REJECTIONS_SHOWN = 10
_COUNTS = ("courses", "runs", "created", "changed", "unchanged", "withdrawn", "rejected")
_HEADINGS = {"created": "new", "seconds": "s"}
_MARKS = {"ok": "[green]✓[/]", "incomplete": "[yellow]![/]", "failed": "[red]✗[/]"}

console = Console(highlight=False)


class _Live:
    """A line that is updated each time the console refreshes."""

    def __init__(self, text: str, detail: Callable[[], str]) -> None:
        self._text = text
        self._detail = detail
        self._began_s = time.monotonic()

    def __rich__(self) -> str:
        return f"{self._text} [dim]{time.monotonic() - self._began_s:.0f} s {escape(self._detail())}[/]"


@contextmanager
def step(text: str, detail: Callable[[], str] = str) -> Iterator[None]:
    """Show a running step with a changing detail, and then how long it took."""
    began_s = time.monotonic()
    mark = _MARKS["failed"]
    try:
        with console.status(_Live(text, detail)):
            yield
        mark = _MARKS["ok"]
    finally:
        console.print(f"{mark} {text} [dim]{time.monotonic() - began_s:.1f} s {escape(detail())}[/]")


def show_reports(reports: Sequence[SyncReport]) -> None:
    """Show what each sync did, with the reason of each rejection."""
    table = _table("What the sync did")
    # A narrow console has no room for columns of zeros.
    wide = console.width >= _WIDE
    shown = [name for name in _COUNTS if wide or any(getattr(report, name) for report in reports)]
    for name in ("catalog", *shown, "seconds"):
        table.add_column(
            _HEADINGS.get(name, name), justify="left" if name == "catalog" else "right", no_wrap=True
        )
    for report in reports:
        counts = (f"{getattr(report, name):,}" for name in shown)
        table.add_row(f"{_MARKS[report.outcome]} {report.catalog_id}", *counts, f"{report.seconds:.1f}")
    console.print()
    console.print(table, "")
    _show_rejections(reports)
    for report in reports:
        catalog = f"Catalog {report.catalog_id}"
        if report.restored:
            console.print(f"{catalog}: {report.restored} withdrawn runs returned")
        if tracks := ", ".join(f"{runs} {track!r}" for track, runs in report.unknown_tracks.items()):
            console.print(f"{catalog}: runs of tracks for which the contract has no type: {escape(tracks)}")
        for remark in (report.incomplete, report.error):
            if remark:
                console.print(f"{catalog}: {escape(remark)}")


def _show_rejections(reports: Sequence[SyncReport]) -> None:
    """Print each rejection once, also when several catalogs have the run."""
    catalogs: dict[Rejection, list[str]] = {}
    for report in reports:
        for rejection in report.rejections:
            catalogs.setdefault(rejection, []).append(str(report.catalog_id))
    if catalogs:
        console.print("Rejected:")
    for rejection, ids in islice(catalogs.items(), _REJECTIONS_SHOWN):
        key = repr(rejection.run_key) if rejection.run_key else "a run"  # edX may send anything
        said = f"{key}, {rejection.field}: {rejection.reason} (catalog {', '.join(ids)})"
        console.print(Padding(escape(said), (0, 0, 0, 2)))
    if len(catalogs) > _REJECTIONS_SHOWN:
        console.print("  … and more; see the table of sync reports")


def show_runs(runs: Iterable[Mapping[str, Any]], title: str) -> None:
    """Show the first of the course runs, which are in the form of the contract."""
    headings = next(names for width, names in _RUN_HEADINGS.items() if console.width >= width)
    table = _table(title)
    for heading in headings:
        table.add_column(heading, justify=_RUN_COLUMNS[heading][1], no_wrap=True, overflow="fold")
    for run in islice(runs, _RUNS_SHOWN):
        table.add_row(*(escape(_RUN_COLUMNS[heading][0](run)) for heading in headings))
    console.print()
    console.print(table)


def _field(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda run: str(run.get(name, ""))


def _day(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda run: str(run.get(name, ""))[:10]


def _hours_a_week(run: Mapping[str, Any]) -> str:
    return "-".join(str(run[name]) for name in ("minEffort", "maxEffort") if name in run)


_RUN_COLUMNS: dict[str, tuple[Callable[[Mapping[str, Any]], str], Literal["left", "right"]]] = {
    "course run": (_field("courserunKey"), "left"),
    "available": (_field("availability"), "left"),
    "start": (_day("startDate"), "left"),
    "end": (_day("endDate"), "left"),
    "weeks": (_field("weeksToComplete"), "right"),
    "h/week": (_hours_a_week, "right"),
    "type": (_field("type"), "left"),
    "USD": (_field("price"), "right"),
    "MC": (_field("modularCredit"), "right"),
}
_RUN_HEADINGS: dict[int, tuple[str, ...]] = {  # by the least width of a console that has room for them
    105: tuple(_RUN_COLUMNS),
    _WIDE: tuple(name for name in _RUN_COLUMNS if name not in ("start", "end")),
    0: ("course run", "type", "USD", "MC"),
}


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
