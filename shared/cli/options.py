"""Options that several commands have, and the exit codes."""

from datetime import datetime
from typing import Annotated

import typer

from shared.cli.times import moment

FAILED = 1
"""Exit code: what was asked for could not be done. 2 is wrong usage, by convention."""

MISCONFIGURED = 3
"""Exit code: a setting is missing or malformed."""

INTERRUPTED = 130
"""Exit code: Ctrl-C (128 + SIGINT, as shells have it)."""


def only_one(**given: bool) -> None:
    """Refuse options that exclude each other."""
    names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise typer.BadParameter(f"{' and '.join(names)} exclude each other")


Catalog = Annotated[int | None, typer.Option("--catalog", min=1, help="Only this catalog.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=moment,
        metavar="WHEN",
        help="Nothing older: how long ago (30m, 2h, 7d), a day (2026-03-01) or a time, in UTC.",
    ),
]
