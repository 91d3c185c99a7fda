"""Options that several commands share, and the exit codes."""

from datetime import datetime
from typing import Annotated

import typer

from shared.cli.times import moment

FAILED = 1
"""Exit code: the command failed. (2 means wrong usage, by convention.)"""

MISCONFIGURED = 3
"""Exit code: a setting is missing or malformed."""

INTERRUPTED = 130
"""Exit code: Ctrl-C (128 + SIGINT, as in shells)."""


def only_one(**given: bool) -> None:
    """Raise a usage error when more than one of the options is given."""
    names = [f"--{name}" for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise typer.BadParameter(f"{' and '.join(names)} cannot be used together")


Catalog = Annotated[int | None, typer.Option("--catalog", min=1, help="Only this catalog.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV for spreadsheets.")]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=moment,
        metavar="WHEN",
        help="Only entries after WHEN: how long ago (30m, 2h, 7d), a date (2026-03-01) or a time, in UTC.",
    ),
]
