"""`credits`: the modular credits that administrators approved for runs and courses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated

import typer

from shared.cli.approvals_file import problem_of, read_approvals
from shared.cli.console import comment, counted, print_csv, print_json, print_table, say
from shared.cli.layout import Row
from shared.cli.options import FAILED, AsCsv, AsJson, only_one
from shared.cli.parts import connector, known_catalogs
from shared.cli.sync import sync_catalogs
from shared.domain.course_run import INT32_MAX, rfc3339
from shared.domain.credits import Approval

app = typer.Typer(
    help="Show and set approved modular credits, which replace the result of the formula.",
    no_args_is_help=True,
)

_UNKNOWN_NAMED = 10
_COLUMNS = ("key", "credit", "note", "by", "at")

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key of a course run or of a course.")]
By = Annotated[str, typer.Option("--by", help="Who approved it; by default the user of this machine.")]
Sync = Annotated[
    bool, typer.Option("--sync", help="Sync the catalogs with this key now, so that it takes effect.")
]


@app.command("set")
def set_credit(
    key: Key,
    credit: Annotated[int, typer.Argument(metavar="CREDIT", min=0, max=INT32_MAX, help="Modular credits.")],
    *,
    note: Annotated[str, typer.Option("--note", help="Why: shown by `show` and in `changes`.")] = "",
    by: By = "",
    sync: Sync = False,
) -> None:
    """Approve the modular credit of a run, or of all runs of a course. A run's own approval has priority."""
    approval = Approval(key, credit, note, by or getuser(), datetime.now(UTC))
    problem = problem_of(approval)
    if problem:
        raise typer.BadParameter(problem)
    connector().tables.credits.set([approval])
    say(f"{counted(credit, 'modular credit')} approved for {key}.")
    _applied([key], sync=sync)


@app.command("remove")
def remove(key: Key, *, sync: Sync = False) -> None:
    """Remove an approval, so that the formula is used again."""
    if not connector().tables.credits.remove(key):
        say(f"Error: no credit is approved for {key}", "red", is_error=True)
        raise typer.Exit(FAILED)
    say(f"The approval for {key} is removed.")
    _applied([key], sync=sync)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", exists=True, dir_okay=False, help="The file.")],
    *,
    by: By = "",
    sync: Sync = False,
) -> None:
    """Import approvals from a CSV file with the columns key, credit and, optionally, note, by, at.

    If any line is wrong, nothing is stored and every wrong line is named. The output of `credits list
    --csv` can be imported.
    """
    approvals, problems = read_approvals(file, by or getuser(), datetime.now(UTC))
    if problems:
        for problem in problems:
            say(problem, "red", is_error=True)
        say(f"Error: {counted(len(problems), 'problem')} in {file}; nothing was stored", is_error=True)
        raise typer.Exit(FAILED)
    connector().tables.credits.set(approvals)
    say(f"{counted(len(approvals), 'approval')} stored.")
    _applied([approval.key for approval in approvals], sync=sync)


@app.command("list")
def list_credits(*, as_csv: AsCsv = False, as_json: AsJson = False) -> None:
    """Show every approval. With --csv it is a backup that `credits import` reads."""
    only_one(csv=as_csv, json=as_json)
    approvals = connector().tables.credits.all()
    found = sorted(approvals, key=lambda approval: approval.key)
    rows = [(each.key, each.credit, each.note, each.by, rfc3339(each.at)) for each in found]
    if as_json:
        print_json([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
    elif as_csv:
        print_csv(_COLUMNS, rows)
    else:
        print_table(_COLUMNS, [Row([key, str(credit), *rest]) for key, credit, *rest in rows])
        comment(counted(len(found), "approval"))
    for sentence in approvals.malformed:
        say(f"Warning: {sentence}", "yellow", is_error=True)


def _applied(keys: Sequence[str], *, sync: bool) -> None:
    """Warn of keys that no catalog has; sync the catalogs that have one, or say when it takes effect."""
    unknown = set(keys)
    catalogs = []
    for catalog_id in known_catalogs():
        known = _keys(catalog_id).intersection(keys)
        unknown -= known
        if known:
            catalogs.append(catalog_id)
    for key in sorted(unknown)[:_UNKNOWN_NAMED]:
        say(f"Warning: no catalog has a run or a course with the key {key} yet", "yellow", is_error=True)
    if len(unknown) > _UNKNOWN_NAMED:
        say(
            f"Warning: {len(unknown) - _UNKNOWN_NAMED} other keys are in no catalog yet",
            "yellow",
            is_error=True,
        )
    if sync and catalogs:
        sync_catalogs(catalogs)
    elif catalogs:
        say("It takes effect with the next sync.")


def _keys(catalog_id: int) -> set[str]:
    found: set[str] = set()
    for stored in connector().tables.catalogs.runs(catalog_id):
        if stored.mapped:
            found.add(stored.mapped.run.courserun_key)
            if stored.mapped.course_key:
                found.add(stored.mapped.course_key)
    return found
