"""`status`: shows age, last failure and running sync of each catalog, for on-call and for cron."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from shared.cli.console import comment, counted, print_json, print_table, say
from shared.cli.layout import Row
from shared.cli.options import FAILED, AsJson
from shared.cli.parts import connector
from shared.cli.times import duration_s, duration_text
from shared.domain.attempts import Attempts
from shared.domain.course_run import rfc3339
from shared.ncrontab import longest_gap_s
from shared.settings import TimerSettings, load
from shared.storage.lease import LeaseState

_COLUMNS = (
    *("catalog", "state", "last good sync", "age", "failures", "last failure", "throttled until"),
    *("syncing now", "for"),
)


def status(
    *,
    max_age: Annotated[
        float | None,
        typer.Option(
            "--max-age",
            parser=duration_s,
            metavar="DURATION",
            help="Exit with 1 when a catalog is older: 90m, 3h, 2d. Default: twice the longest gap of "
            "SYNC_SCHEDULE.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one line per catalog, and exit with 1 when one is too old. Never asks edX."""
    limit_s = 2 * longest_gap_s(load(TimerSettings).schedule) if max_age is None else max_age
    now = datetime.now(UTC)
    throttled = connector().tables.account.throttled_until()
    throttled_until = rfc3339(throttled) if throttled and throttled > now else None
    known = connector().catalogs.known()
    found = [
        *(_catalog(each, now, limit_s, throttled_until) for each in (known.catalog_ids if known else ())),
        *(_left(each) for each in (known.left if known else ())),
    ]
    late = [each for each in found if each["late"]]
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(each) for each in found], note="error")
        if late:
            comment(f"{counted(len(late), 'catalog is', 'catalogs are')} older than {duration_text(limit_s)}")
        listing = connector().tables.account.attempts()
        if listing.failures and listing.failure:
            say(f"edX's list of catalogs could not be fetched: {listing.failure.message}", is_error=True)
    if known is None or not known.catalog_ids:
        say("No catalog is known yet: run `python -m shared sync`.", is_error=True)
        raise typer.Exit(FAILED)
    if late:
        raise typer.Exit(FAILED)


def _catalog(catalog_id: int, now: datetime, limit_s: float, throttled_until: str | None) -> dict[str, Any]:
    head = connector().tables.catalogs.head(catalog_id)
    synced_at = head.synced_at if head else None
    lease = connector().tables.catalogs.lease(catalog_id)
    attempts = lease.attempts if lease else Attempts()
    age_s = None if synced_at is None else max(0, int((now - synced_at).total_seconds()))
    return {
        "catalog": catalog_id,
        "succeeded": rfc3339(synced_at) if synced_at else None,
        "age_s": age_s,
        "late": age_s is None or age_s > limit_s,
        "failures": attempts.failures,
        "failed": rfc3339(attempts.failed_at) if attempts.failed_at else None,
        "error": attempts.failure.message if attempts.failure else None,
        "throttled_until": throttled_until,
        **_holder(lease, now),
        "left_list": False,
    }


def _holder(lease: LeaseState | None, now: datetime) -> dict[str, Any]:
    """Return who holds the lease, and since when (the beginning of its attempt)."""
    if lease is None or not lease.sync_id:
        return {"holder": None, "held_s": None}
    began = lease.attempts.attempted_at
    return {
        "holder": lease.holder or "another process",
        "held_s": max(0, int((now - began).total_seconds())) if began else None,
    }


def _left(catalog_id: int) -> dict[str, Any]:
    """Describe a catalog that edX no longer lists; it is not synced any more, so it is not late."""
    head = connector().tables.catalogs.head(catalog_id)
    return {
        "catalog": catalog_id,
        "succeeded": rfc3339(head.synced_at) if head and head.synced_at else None,
        "age_s": None,
        "late": False,
        "failures": 0,
        "failed": None,
        "error": None,
        "throttled_until": None,
        "holder": None,
        "held_s": None,
        "left_list": True,
    }


def _row(each: dict[str, Any]) -> Row:
    state = "left edX's list" if each["left_list"] else "late" if each["late"] else "ok"
    return Row(
        [
            str(each["catalog"]),
            "never synced" if each["late"] and each["age_s"] is None else state,
            each["succeeded"],
            "" if each["age_s"] is None else duration_text(each["age_s"]),
            each["failures"],
            each["failed"],
            each["throttled_until"],
            each["holder"],
            "" if each["held_s"] is None else duration_text(each["held_s"]),
        ],
        each["error"] if each["failures"] else "",
    )
