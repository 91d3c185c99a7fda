"""Parses and formats times and durations for people. All times are UTC."""

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration_s(text: str) -> float:
    """Read a duration: 90s, 30m, 2h, 7d, or a number of seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip(), re.ASCII)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration: use 90s, 30m, 2h, 7d or a number of seconds")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def moment(text: str) -> datetime:
    """Read a time: how long ago (2d), a date (2026-03-01) or a time (2026-03-01T12:00:00Z), in UTC."""
    try:
        at = datetime.fromisoformat(text.strip())
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.now(UTC) - timedelta(seconds=duration_s(text))
    except (typer.BadParameter, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time: use how long ago (30m, 2h, 7d), a date (2026-03-01) "
            "or a time (2026-03-01T12:00:00Z)"
        ) from None


def duration_text(seconds: float) -> str:
    """Format a duration in its two largest units: 2 d 3 h, 5 min 10 s."""
    whole = max(0, round(seconds))
    sizes = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((at for at, (_, size) in enumerate(sizes) if whole >= size), len(sizes) - 1)
    parts: list[str] = []
    for unit, size in sizes[first : first + 2]:
        number, whole = divmod(whole, size)
        if number or not parts:
            parts.append(f"{number} {unit}")
    return " ".join(parts)
