"""`runs`: shows the stored course runs and their state."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer

from shared.cli.console import comment, counted, print_csv, print_json, print_table
from shared.cli.layout import Cell, Row
from shared.cli.options import AsCsv, AsJson, Catalog, only_one
from shared.cli.parts import connector, known_catalogs
from shared.domain.course_run import CourseRun, MappedRun, availability, rfc3339
from shared.domain.credits import Approvals


class State(StrEnum):
    """The state of a stored run; only runs in the first two states are in the answer."""

    CURRENT = "Current"
    UPCOMING = "Upcoming"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"
    UNPUBLISHED = "unpublished"


_COLUMNS = (
    *("catalog", "courserunKey", "state", "start", "end"),
    *("price", "type", "weeks", "effort", "MC"),
)
_CONTRACT = [info.alias or name for name, info in CourseRun.model_fields.items() if name != "availability"]
_OTHERS = (
    *("catalog", "state", "listed", "withdrawnAt", "courseKey"),
    *("proposedCredit", "approvedCredit", "approvalNote"),
)


def _fields(text: str) -> list[str]:
    names = [name for part in text.split(",") if (name := part.strip())]
    known = {name.lower(): name for name in (*_CONTRACT, *_OTHERS)}
    unknown = [name for name in names if name.lower() not in known]
    if unknown or not names:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'nothing'} is not a field: expected some of {', '.join(known.values())}"
        )
    return [known[name.lower()] for name in names]


def runs(
    *,
    catalog: Catalog = None,
    key: Annotated[str, typer.Option("--key", help="Only runs with this text in their key.")] = "",
    run_type: Annotated[
        Literal["audit", "verified", "professional"] | None, typer.Option("--type", help="Only this type.")
    ] = None,
    state: Annotated[
        State | None, typer.Option("--state", case_sensitive=False, help="Only runs in this state.")
    ] = None,
    withdrawn: Annotated[
        bool,
        typer.Option("--withdrawn", help="Only runs that edX no longer shows; same as --state withdrawn."),
    ] = False,
    fields: Annotated[
        Any,
        typer.Option(
            "--fields",
            parser=_fields,
            metavar="NAMES",
            help=f"Show these fields, separated by commas: fields of the contract, and {', '.join(_OTHERS)}.",
        ),
    ] = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Show the stored course runs, including ended and withdrawn ones."""
    only_one(csv=as_csv, json=as_json)
    wanted = State.WITHDRAWN if withdrawn else state
    shown = fields or (_OTHERS if as_json else ())
    needs_approvals = bool({"approvedCredit", "approvalNote"} & set(shown))
    approvals = connector().tables.credits.all() if needs_approvals else Approvals()
    now = rfc3339(datetime.now(UTC))
    found = [
        run_values(catalog_id, stored.mapped, stored.withdrawn_at, now, approvals)
        for catalog_id in known_catalogs(catalog)
        for stored in connector().tables.catalogs.runs(catalog_id)
        if stored.mapped is not None
    ]
    found = [
        values
        for values in found
        if key.lower() in str(values["courserunKey"]).lower()
        and (run_type is None or values.get("type") == run_type)
        and (wanted is None or values["state"] == wanted)
    ]
    found.sort(key=lambda values: (values["catalog"], values["courserunKey"]))
    if as_json:
        print_json([_chosen(values, fields) if fields else values for values in found])
    elif as_csv:
        names = fields or ["catalog", "state", *_CONTRACT, "withdrawnAt"]
        print_csv(names, [[values.get(name) for name in names] for values in found])
    elif fields:
        rows = [Row([_cell(values.get(name)) for name in fields]) for values in found]
        print_table(fields, rows, title="courserunKey")
    else:
        print_table(_COLUMNS, [Row(_cells(values)) for values in found], title="courserunKey")
    if not (as_csv or as_json):
        comment(counted(len(found), "course run"))


def run_values(
    catalog_id: int, mapped: MappedRun, withdrawn_at: str | None, now: str, approvals: Approvals
) -> dict[str, Any]:
    """Return all stored values of a run; unknown contract fields are left out."""
    approval = approvals.of(mapped)
    return {
        "catalog": catalog_id,
        **mapped.run.model_dump(by_alias=True, exclude_none=True),
        "listed": mapped.is_published,
        "withdrawnAt": withdrawn_at,
        "state": _state(mapped, withdrawn_at, now),
        "courseKey": mapped.course_key,
        "proposedCredit": mapped.proposed_credit,
        "approvedCredit": approval.credit if approval else None,
        "approvalNote": approval.note if approval else None,
    }


def _state(mapped: MappedRun, withdrawn_at: str | None, now: str) -> State:
    if withdrawn_at is not None:
        return State.WITHDRAWN
    if not mapped.is_published:
        return State.UNPUBLISHED
    return State(availability(mapped.run.start_date, mapped.run.end_date, now) or State.ENDED)


def _chosen(values: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    return {name: values.get(name) for name in fields}


def _cells(values: dict[str, Any]) -> list[Cell]:
    day = f" {values['withdrawnAt'][:10]}" if values["state"] == State.WITHDRAWN else ""
    return [
        values["catalog"],
        values["courserunKey"],
        f"{values['state']}{day}",
        values.get("startDate", "")[:10],
        values.get("endDate", "")[:10],
        values.get("price", ""),
        values.get("type", ""),
        values.get("weeksToComplete"),
        _effort(values.get("minEffort"), values.get("maxEffort")),
        _cell(values.get("modularCredit")),
    ]


def _effort(least: int | None, most: int | None) -> str:
    known = dict.fromkeys(str(hours) for hours in (least, most) if hours is not None)
    return "-".join(known)


def _cell(value: object) -> Cell:
    """Return a value as a cell; as text, so that a column with credits of 0 is not dropped."""
    return value if isinstance(value, str) else "" if value is None else str(value)
