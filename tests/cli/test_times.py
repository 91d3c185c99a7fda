from datetime import UTC, datetime, timedelta

import pytest
import typer

from shared.cli.times import duration_s, duration_text, moment


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), (" 7d ", 604_800)]
)
def test_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "1.5h", "1 week", "٣h", "9999999999d"])
def test_text_is_refused_when_it_is_not_a_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration: use 90s, 30m, 2h, 7d"):
        duration_s(text)


def test_moment_is_a_date_or_a_time_in_utc() -> None:
    assert moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert moment("2026-03-01T12:00:00Z") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert moment("2026-03-01T20:00:00+08:00") == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_moment_is_how_long_ago_when_it_is_a_duration() -> None:
    before = datetime.now(UTC)
    assert before - timedelta(days=2) <= moment("2d") <= datetime.now(UTC) - timedelta(days=2)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "999999999d", "0001-01-01T00:00:00+08:00"])
def test_text_is_refused_when_it_is_not_a_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time"):
        moment(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (59 * 60 + 59, "59 min 59 s"),
        (86_399, "23 h 59 min"),
        (86_400, "1 d"),
        (3600, "1 h"),
        (7384, "2 h 3 min"),
        (90_000, "1 d 1 h"),
        (366 * 86_400, "366 d"),
    ],
)
def test_duration_is_written_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
