"""Prints the output of the command line: tables on a terminal, tab-separated lines into a pipe, JSON and CSV.

A pipe gets every column, one line per row. If the console cannot show a character, it is escaped; our own
marks are then in ASCII.
"""

import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper

from rich import progress
from rich.console import Console
from rich.text import Text

from shared.cli.layout import Cell, Row, table_lines, text_of

_ASCII = {"✓": "ok", "✗": "FAILED", "→": "->"}
# Characters that control the terminal, the line or the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
FORMULA_STARTS = ("=", "+", "-", "@")


def prepare_streams() -> None:
    """Make standard output and error escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_streams() -> None:
    """Flush standard output and error; ignore a pipe whose reader has ended (`| head -1`)."""
    try:
        sys.stdout.flush()
    except (
        BrokenPipeError
    ):  # otherwise Python reports it at exit: https://docs.python.org/3/library/signal.html
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 course run, 2 course runs."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def say(text: str, style: str = "", *, is_error: bool = False) -> None:
    """Print a sentence: wrapped between words on a terminal, in one line otherwise."""
    _print(Text(_one_line(text), style), is_error=is_error)


def comment(text: str) -> None:
    """Print a note for people: on standard output in a terminal, on standard error when output is piped."""
    say(text, "dim", is_error=not sys.stdout.isatty())


def mark(*, is_good: bool | None) -> str:
    """Return the mark for success, for failure, or for a part that was not tried (None)."""
    return "-" if is_good is None else "✓" if is_good else "✗"


def print_json(value: object) -> None:
    """Print JSON for programs."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=datetime.isoformat)
    print(text if _can_show(text) else json.dumps(value, indent=2, default=datetime.isoformat))  # noqa: T201


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print CSV; put an apostrophe before a text that a spreadsheet would run as a formula."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell for cell in row
        )


def print_table(columns: Sequence[str], rows: Sequence[Row], *, title: str = "", note: str = "") -> None:
    """Print rows.

    Args:
        columns: the headings.
        rows: the cells and notes.
        title: the column that names a row; by default the first.
        note: the heading of the notes when they are a column.
    """
    shown = [
        Row([_one_line(cell) if isinstance(cell, str) else cell for cell in row.cells], _one_line(row.note))
        for row in rows
    ]
    if sys.stdout.isatty():
        for line in table_lines(columns, shown, Console().width, title):
            _print(line, is_folded=False)
        return
    print("\t".join([*columns, note] if note else columns))  # noqa: T201
    for row in shown:
        print("\t".join(map(text_of, [*row.cells, row.note] if note else row.cells)))  # noqa: T201


class Bar:
    """A progress bar on a terminal; otherwise only the lines passed to `say`."""

    def __init__(self, bar: progress.Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def move(self, done: int, total: int | None) -> None:
        """Show how many are done, and the total if it is known."""
        self._bar.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line above the bar, on standard error."""
        self._bar.console.print(Text(_one_line(text)), soft_wrap=True)


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Bar]:
    """Show a progress bar during the block."""
    console = Console(stderr=True)
    with progress.Progress(
        progress.TextColumn(title),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(unit),
        progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        yield Bar(bar)


def _one_line(text: str) -> str:
    """Return text without control characters; escape characters that the console cannot show."""
    plain = _CONTROL.sub(" ", text)
    return plain if _can_show(plain) else "".join(map(_shown, plain))


def _shown(character: str) -> str:
    if _can_show(character):
        return character
    return _ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")  # rich hides it during a progress bar
    except UnicodeEncodeError:
        return False
    return True


def _print(text: Text, *, is_error: bool = False, is_folded: bool = True) -> None:
    console = Console(stderr=is_error)
    console.print(text, soft_wrap=not (is_folded and console.file.isatty()))
