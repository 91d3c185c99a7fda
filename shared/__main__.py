"""The operator's command line: `python -m shared --help`.

On the same code and settings as the functions, which never import it: settings come from the environment
and, for what it does not set, from a local.settings.json in the current folder.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared import wiring
from shared.api.access import fetch, signing_keys
from shared.domain.course_run import MappedRun, StoredRun, availability, rfc3339
from shared.domain.sync_report import SyncReport
from shared.edx.models import EdxCatalog
from shared.errors import ConfigurationError, ConnectorError, StorageError
from shared.settings import access_settings
from shared.settings_file import with_settings_file
from shared.sync.sync import Caller, Preview, Progress

BUDGET_S = 540.0
"""As the timer has it; a longer one would sit out a long throttling in silence."""

FAILED = 1  # what was asked for could not be done; 2 is wrong usage, by convention
MISCONFIGURED = 3

app = typer.Typer(
    help="Operate the LumiNUS edX connector. Settings come from the environment, then local.settings.json.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a setting is missing or malformed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

Catalog = Annotated[
    int | None, typer.Option("--catalog", min=1, help="Only this catalog. [default: every one of ours]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


@app.callback()
def main() -> None:
    """Read local.settings.json and keep the log quiet: the command prints what matters itself."""
    os.environ.update(with_settings_file(Path("local.settings.json")))
    logging.getLogger("shared").setLevel(logging.CRITICAL)


@app.command()
def catalogs(*, as_json: AsJson = False) -> None:
    """List the catalogs that edX has for our credentials: what EDX_CATALOG_IDS can name."""
    found = _edx_catalogs()
    if as_json:
        return _print_json([catalog.model_dump() for catalog in found])
    table = _table("id", "name", "courses")
    for catalog in found:
        table.add_row(str(catalog.id), escape(catalog.name), _number(catalog.courses_count))
    out.print(table)
    out.print("[dim]courses: as edX counts them, archived ones too")
    return None


@app.command()
def sync(
    *,
    catalog: Catalog = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Pull and show what would change, field by field; write nothing."),
    ] = False,
    allow_withdrawals: Annotated[
        bool,
        typer.Option(
            "--allow-withdrawals",
            help="Let pass, this once, a withdrawal that the guard against mass loss would stop.",
        ),
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Read the stored course runs again instead of trusting the published state."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the stored catalogue to what edX shows now.

    Runs that edX no longer shows are withdrawn: they stay in storage, leave the answer, and come back under
    the same id. A sync that another process runs at the moment is waited for.
    """
    if dry_run and (allow_withdrawals or rebuild):
        raise typer.BadParameter(
            "--dry-run writes nothing: it goes with neither --allow-withdrawals nor --rebuild"
        )

    def sync_one(catalog_id: int, on_progress: Progress) -> SyncReport | Preview | None:
        if dry_run:
            return wiring.syncer().preview(catalog_id, BUDGET_S, on_progress=on_progress)
        return wiring.syncer().sync(
            catalog_id,
            BUDGET_S,
            Caller("operator"),
            rebuild=rebuild,
            allow_withdrawals=allow_withdrawals,
            on_progress=on_progress,
        )

    ids = [catalog] if catalog else list(wiring.settings().edx.catalog_ids) or [c.id for c in _edx_catalogs()]
    results: list[dict[str, Any]] = []
    failed = False
    for catalog_id in ids:
        try:
            with _progress_bar(catalog_id) as on_progress:
                result = sync_one(catalog_id, on_progress)
        except ConnectorError as error:
            failed = True
            results.append({"catalog": catalog_id, "outcome": "failed", "error": error.message})
            err.print(f"[red]Catalog {catalog_id} failed:[/] {escape(error.message)}", soft_wrap=True)
        else:
            results.append(_result_json(catalog_id, result))
            if not as_json:
                _print_result(catalog_id, result)
    if as_json:
        _print_json(results)
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def runs(
    *,
    catalog: Catalog = None,
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Only runs that edX no longer shows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the stored course runs, ended and withdrawn ones too, as they stand in Table Storage."""
    rows = [
        (catalog_id, stored)
        for catalog_id in ([catalog] if catalog else _our_catalogs())
        for stored in wiring.store().runs(catalog_id)
        if stored.mapped is not None and (stored.withdrawn_at is not None or not withdrawn)
    ]
    rows.sort(key=lambda row: (row[0], row[1].mapped.run.courserun_key if row[1].mapped else ""))
    if as_json:
        return _print_json([_run_json(catalog_id, stored) for catalog_id, stored in rows])
    table = _table("catalog", "courserunKey", "state", "start", "end", "price", "type", "MC")
    for catalog_id, stored in rows:
        if stored.mapped is None:
            continue
        run = stored.mapped.run
        table.add_row(
            str(catalog_id),
            escape(run.courserun_key),
            _state(stored.mapped, stored.withdrawn_at),
            (run.start_date or "")[:10],
            (run.end_date or "")[:10],
            escape(run.price or ""),
            run.type or "",
            _number(run.modular_credit),
        )
    out.print(table)
    out.print(f"{len(rows)} course runs")
    return None


@app.command()
def history(
    *,
    number: Annotated[int, typer.Option("-n", min=1, help="How many, newest first.")] = 20,
    catalog: Catalog = None,
    as_json: AsJson = False,
) -> None:
    """Show past syncs: when, how long, how they ended, what they did. Kept for 90 days."""
    reports = wiring.store().reports(catalog, number)
    if as_json:
        return _print_json([_report_json(report) for report in reports])
    table = _table(
        "ended (UTC)", "catalog", "by", "seconds", "outcome", "courses", "runs", "new", "changed", "restored",
        "withdrawn", "rejected", "why",
    )  # fmt: skip
    for report in reports:
        table.add_row(
            f"{report.ended:%Y-%m-%d %H:%M:%S}",
            str(report.catalog_id),
            report.trigger,
            f"{report.seconds:.1f}",
            _outcome(report),
            *map(
                str,
                (
                    report.courses, report.runs, report.created, report.changed, report.restored,
                    report.withdrawn, report.rejected,
                ),
            ),
            escape(report.error or report.incomplete or ""),
        )  # fmt: skip
    out.print(table)
    return None


@app.command()
def check(*, as_json: AsJson = False) -> None:
    """Try the settings, storage, edX's credentials and the JWKS, and say what to do about a failure."""
    storage = "check TABLES_CONNECTION_STRING, or TABLES_ENDPOINT and the role Storage Table Data Contributor"
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("settings of access", lambda: f"{len(access_settings().subscription_keys)} subscription keys", ""),
        ("other settings", lambda: "complete" if wiring.settings() else "", ""),
        ("storage", _try_storage, storage),
        (
            "edX",
            lambda: f"{len(_edx_catalogs())} catalogs",
            "check EDX_API_URL, EDX_TOKEN_URL, EDX_CLIENT_ID, EDX_CLIENT_SECRET, and that edX can be reached",
        ),
        (
            "JWKS",
            lambda: f"{len(signing_keys(fetch(access_settings().jwks_url)))} keys that can sign RS256",
            "check ADMIN_JWKS_URL, and that it can be reached from here",
        ),
    ]
    worst = 0
    results = []
    for name, attempt, advice in checks:
        code = 0
        try:
            text = attempt()
        except ConfigurationError as error:
            code, text = MISCONFIGURED, error.message
        except StorageError as error:  # asking edX begins with what storage remembers of its rate limit
            code, text = FAILED, f"{error.message}; {storage}"
        except (ConnectorError, OSError, ValueError, HTTPException) as error:
            problem = error.message if isinstance(error, ConnectorError) else type(error).__name__
            code, text = FAILED, f"{problem}; {advice}"
        worst = max(worst, code)
        results.append({"check": name, "ok": not code, "result": text})
        if not as_json:
            mark = "[red]✗[/]" if code else "[green]✓[/]"
            out.print(f"{mark} {name}: {escape(text)}", highlight=False, soft_wrap=True)
    if as_json:
        _print_json(results)
    if worst:
        raise typer.Exit(worst)


def _try_storage() -> str:
    settings = wiring.settings()
    wiring.store().try_out(settings.edx.client_id)
    return f"tables with the prefix {settings.storage.prefix} can be read and written"


def _edx_catalogs() -> list[EdxCatalog]:
    with wiring.syncer().session(BUDGET_S) as edx:
        return sorted(edx.catalogs(), key=lambda catalog: catalog.id)


def _our_catalogs() -> list[int]:
    """Return the catalogs that are ours, from storage alone."""
    configured = wiring.settings().edx.catalog_ids
    if configured:
        return list(configured)
    listed = wiring.store().catalog_list(wiring.settings().edx.client_id)
    return list(listed.catalog_ids) if listed else []


@contextmanager
def _progress_bar(catalog_id: int) -> Iterator[Progress]:
    with progress.Progress(
        progress.TextColumn(f"Catalog {catalog_id}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("courses"),
        progress.TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_result(catalog_id: int, result: SyncReport | Preview | None) -> None:
    if result is None:
        out.print(f"Catalog {catalog_id}: another process was syncing it and has finished")
    elif isinstance(result, Preview):
        _print_preview(catalog_id, result)
    else:
        _print_report(result)


def _result_json(catalog_id: int, result: SyncReport | Preview | None) -> dict[str, Any]:
    if result is None:
        return {"catalog": catalog_id, "outcome": "ok", "by": "another process"}
    return _preview_json(catalog_id, result) if isinstance(result, Preview) else _report_json(result)


def _print_report(report: SyncReport) -> None:
    out.print(
        f"Catalog {report.catalog_id}: {_outcome(report)} in {report.seconds:.1f} s. "
        f"{report.courses} courses, {report.runs} runs: {report.created} new, {report.changed} changed, "
        f"{report.restored} restored, {report.unchanged} unchanged; {report.withdrawn} withdrawn, "
        f"{report.rejected} rejected",
        highlight=False,
    )
    _print_troubles(report)


def _print_troubles(report: SyncReport) -> None:
    if report.incomplete:
        out.print(f"  incomplete, so nothing is withdrawn: {escape(report.incomplete)}", soft_wrap=True)
    for rejection in report.rejections:
        key = escape(rejection.run_key or "(no key)")
        out.print(f"  rejected {key}, {rejection.field}: {escape(rejection.reason)}", highlight=False)


def _print_preview(catalog_id: int, preview: Preview) -> None:
    for stored, change in preview.changes:
        out.print(f"{change.kind} [bold]{escape(change.mapped.run.courserun_key)}[/]", highlight=False)
        for name, before, after in _differences(stored, change.mapped):
            out.print(f"  {name}: {escape(before)} → {escape(after)}", highlight=False)
    for stored in preview.gone:
        key = stored.mapped.run.courserun_key if stored.mapped else "(unreadable)"
        out.print(f"withdrawn [bold]{escape(key)}[/]", highlight=False)
    if preview.stopped:
        out.print(f"[yellow]The guard would stop the withdrawals:[/] {escape(preview.stopped.message)}")
    _print_troubles(preview.report)
    out.print(
        f"Catalog {catalog_id}: {len(preview.changes)} runs would be written, {len(preview.gone)} withdrawn; "
        f"{preview.report.unchanged} are unchanged. Nothing was written."
    )


def _differences(stored: StoredRun | None, mapped: MappedRun) -> list[tuple[str, str, str]]:
    """Return the fields that a write would change, as text, "none" where there is no value."""
    before = _fields(stored.mapped) if stored and stored.mapped else {}
    after = _fields(mapped)
    return [
        (name, str(before.get(name, "none")), str(after.get(name, "none")))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _fields(mapped: MappedRun) -> dict[str, Any]:
    return mapped.run.model_dump(by_alias=True, exclude_none=True) | {"listed": mapped.listed}


def _preview_json(catalog_id: int, preview: Preview) -> dict[str, Any]:
    return {
        "catalog": catalog_id,
        "outcome": "preview",
        "changes": [
            {
                "kind": change.kind,
                "courserunKey": change.mapped.run.courserun_key,
                "fields": {
                    name: {"before": before, "after": after}
                    for name, before, after in _differences(stored, change.mapped)
                },
            }
            for stored, change in preview.changes
        ],
        "withdrawn": [stored.mapped.run.courserun_key for stored in preview.gone if stored.mapped],
        "incomplete": preview.report.incomplete,
        "stopped": preview.stopped.message if preview.stopped else None,
    }


def _run_json(catalog_id: int, stored: StoredRun) -> dict[str, Any]:
    fields = _fields(stored.mapped) if stored.mapped else {}
    return {"catalog": catalog_id, **fields, "withdrawnAt": stored.withdrawn_at}


def _report_json(report: SyncReport) -> dict[str, Any]:
    values = asdict(report) | {"seconds": report.seconds}
    values["rejections"] = [rejection._asdict() for rejection in report.rejections]
    return values


def _state(mapped: MappedRun, withdrawn_at: str | None) -> str:
    if withdrawn_at is not None:
        return f"[red]withdrawn {withdrawn_at[:10]}[/]"
    if not mapped.listed:
        return "[yellow]not published[/]"
    return (
        availability(mapped.run.start_date, mapped.run.end_date, rfc3339(datetime.now(UTC)))
        or "[dim]ended[/]"
    )


def _outcome(report: SyncReport) -> str:
    colour = {"ok": "green", "incomplete": "yellow"}.get(report.outcome, "red")
    return f"[{colour}]{report.outcome}[/]"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=datetime.isoformat))


def _exit(error: ConnectorError) -> NoReturn:
    err.print(f"[red]Error:[/] {escape(error.message)}", highlight=False, soft_wrap=True)
    sys.exit(MISCONFIGURED if isinstance(error, ConfigurationError) else FAILED)


if __name__ == "__main__":
    try:
        app()
    except ConnectorError as error:
        _exit(error)
