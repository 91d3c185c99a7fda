"""`sync`: updates the stored catalogue from edX, or shows what would change."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from shared.cli.console import Bar, counted, print_json, progress_bar, say
from shared.cli.history import report_json
from shared.cli.options import FAILED, INTERRUPTED, AsJson, Catalog
from shared.cli.parts import OPERATOR, connector
from shared.cli.preview import preview_json, preview_lines
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError, SyncError
from shared.storage.lease import LeaseState
from shared.sync.preview import Preview

Result = SyncReport | Preview | None
"""None: another process has synced the catalog."""


def sync(
    *,
    catalog: Catalog = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would change, field by field; write nothing."),
    ] = False,
    allow_withdrawals: Annotated[
        bool,
        typer.Option("--allow-withdrawals", help="Allow withdrawals above the limit for this one sync."),
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Compare edX with the stored course runs instead of the published state, and publish the "
            "result: such as after manual edits.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Update the stored catalogue from edX.

    Runs that edX no longer shows are withdrawn: they leave the answer, stay in storage, and keep their id if
    they return. If another process is syncing the catalog, the command waits for it.
    """
    if dry_run and (allow_withdrawals or rebuild):
        raise typer.BadParameter(
            "--dry-run cannot be used together with --allow-withdrawals or --rebuild: it writes nothing"
        )

    sync_one = preview if dry_run else partial(sync_now, rebuild=rebuild, allow_withdrawals=allow_withdrawals)
    sync_catalogs([catalog] if catalog else ids_to_sync(), sync_one, as_json=as_json)


def ids_to_sync() -> list[int]:
    """Return our catalogs, as edX lists them now.

    Raises:
        ConnectorError: edX's list cannot be fetched, or it is empty.
    """
    ids = list(connector().catalogs.ask(OPERATOR).catalog_ids)
    if not ids:
        raise SyncError(
            "edX lists no catalog for our credentials, so there is nothing to sync; ask edX for access to one"
        )
    return ids


def preview(catalog_id: int, bar: Bar) -> Result:
    """Return the changes that a sync of one catalog would make."""
    return connector().syncer.preview(catalog_id, on_progress=bar.move)


def sync_now(catalog_id: int, bar: Bar, *, rebuild: bool = False, allow_withdrawals: bool = False) -> Result:
    """Sync one catalog."""
    return connector().syncer.sync(
        catalog_id,
        OPERATOR,
        rebuild=rebuild,
        allow_withdrawals=allow_withdrawals,
        on_progress=bar.move,
        on_wait=lambda holder: bar.say(_waiting(catalog_id, holder)),
    )


def sync_catalogs(
    ids: list[int], sync_one: Callable[[int, Bar], Result] = sync_now, *, as_json: bool = False
) -> None:
    """Sync catalogs one by one and print each result; a failed one does not stop the others."""
    results: list[dict[str, Any]] = []
    for catalog_id in ids:
        try:
            with progress_bar(f"Catalog {catalog_id}", "courses") as bar:
                result = sync_one(catalog_id, bar)
        except ConnectorError as error:
            results.append({"catalog": catalog_id, "outcome": "failed", "error": error.message})
            say(f"Catalog {catalog_id} failed: {error.message}", "red", is_error=True)
        except KeyboardInterrupt:
            say(
                f"Interrupted in catalog {catalog_id}. Callers get the state of the last finished sync. "
                "Run the command again: runs that were already written are not written again.",
                is_error=True,
            )
            raise typer.Exit(INTERRUPTED) from None
        else:
            results.append(_result_json(catalog_id, result))
            if not as_json:
                _say_result(catalog_id, result)
    if as_json:
        print_json(results)
    if any(result["outcome"] == "failed" for result in results):
        raise typer.Exit(FAILED)


def _waiting(catalog_id: int, holder: LeaseState) -> str:
    since = holder.attempts.attempted_at
    began = f", which began at {since:%H:%M:%S} UTC" if since else ""
    return f"Catalog {catalog_id}: waiting for the sync of {holder.holder or 'another process'}{began}"


def _result_json(catalog_id: int, result: Result) -> dict[str, Any]:
    if result is None:
        return {"catalog": catalog_id, "outcome": "ok", "by": "another process"}
    return preview_json(catalog_id, result) if isinstance(result, Preview) else report_json(result)


def _say_result(catalog_id: int, result: Result) -> None:
    if result is None:
        say(f"Catalog {catalog_id}: another process was syncing it and has finished")
        return
    if isinstance(result, Preview):
        for line in preview_lines(catalog_id, result):
            say(line)
        report = result.report
    else:
        say(_summary(result))
        report = result
    if report.incomplete:
        say(f"  The pull was incomplete, so nothing was withdrawn: {report.incomplete}")
    for warning in report.warnings:
        say(f"  Warning: {warning}")
    for rejection in report.rejections:
        say(f"  rejected {rejection.run_key or '(no key)'}, {rejection.field}: {rejection.reason}")


def _summary(report: SyncReport) -> str:
    waited = f", after waiting {report.waited_s:.1f} s" if report.waited_s >= 1 else ""
    left = [
        f"{number} {what}"
        for number, what in (
            (report.withdrawn, "withdrawn"),
            (report.unpublished, "unpublished"),
            (report.ended_early, "ended early"),
            (report.rejected, "rejected"),
        )
        if number or what in {"withdrawn", "rejected"}
    ]
    return (
        f"Catalog {report.catalog_id}: {report.outcome} in {report.seconds:.1f} s{waited}. "
        f"{counted(report.courses, 'course')}, {counted(report.runs, 'run')}: {report.created} new, "
        f"{report.changed} changed, {report.restored} restored, {report.unchanged} unchanged; "
        f"{', '.join(left)}"
    )
