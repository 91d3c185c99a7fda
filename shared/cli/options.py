"""Options that several commands have, and how their values are read."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

FAILED = 1
"""Exit code: what was asked for could not be done. 2 is wrong usage, by convention."""

MISCONFIGURED = 3
"""Exit code: a setting is missing or malformed."""

INTERRUPTED = 130
"""Exit code: Ctrl-C (128 + SIGINT, as shells have it)."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration_s(text: str) -> float:
    """Read a duration: 90s, 30m, 2h, 7d, or a number of seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration: expected 90s, 30m, 2h, 7d or a number of seconds")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def moment(text: str) -> datetime:
    """Read a moment: how long ago (2d), a day (2026-03-01) or a time (2026-03-01T12:00:00Z), in UTC."""
    try:
        at = datetime.fromisoformat(text.strip())
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.now(UTC) - timedelta(seconds=duration_s(text))
    except (typer.BadParameter, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no moment: expected how long ago (30m, 2h, 7d), a day (2026-03-01) "
            "or a time (2026-03-01T12:00:00Z)"
        ) from None


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
