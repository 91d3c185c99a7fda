"""`history`: shows what past syncs did, and why some failed."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from shared.cli.console import comment, print_json, print_table
from shared.cli.layout import Row
from shared.cli.options import AsJson, Catalog, Since
from shared.cli.parts import connector
from shared.domain.sync_report import SyncReport

_COLUMNS = (
    *("ended (UTC)", "catalog", "by", "seconds", "waited", "outcome", "courses", "runs", "new", "changed"),
    *("restored", "withdrawn", "unpublished", "ended early", "rejected"),
)


def history(
    *,
    number: Annotated[int, typer.Option("-n", min=1, help="The number of syncs to show, newest first.")] = 20,
    catalog: Catalog = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only syncs that failed.")] = False,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Show past syncs: when, how long, how they ended, what they did. Kept for 90 days."""
    reports = [
        report
        for report in connector().tables.reports.newest(catalog, sys.maxsize if failed else number)
        if (report.outcome == "failed" or not failed) and (since is None or report.ended >= since)
    ][:number]
    if as_json:
        print_json([report_json(report) for report in reports])
        return
    print_table(_COLUMNS, [_row(report) for report in reports], note="why")
    if not reports:
        comment("No sync was found.")


def report_json(report: SyncReport) -> dict[str, Any]:
    """Return a report for JSON output."""
    values = asdict(report) | {"seconds": report.seconds}
    values["rejections"] = [rejection._asdict() for rejection in report.rejections]
    return values


def _row(report: SyncReport) -> Row:
    return Row(
        [
            f"{report.ended:%Y-%m-%d %H:%M:%S}",
            str(report.catalog_id or "all"),
            report.trigger,
            report.seconds,
            report.waited_s
            if report.waited_s >= 1
            else 0.0,  # a shorter wait is only the time to take the lease
            report.outcome,
            report.courses,
            report.runs,
            report.created,
            report.changed,
            report.restored,
            report.withdrawn,
            report.unpublished,
            report.ended_early,
            report.rejected,
        ],
        ". ".join(filter(None, (report.error or report.incomplete, *report.warnings))),
    )
