"""`changes`: shows what syncs changed in the answer, by run and field."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Annotated, Any

import typer

from shared.cli.console import comment, counted, print_csv, print_json, print_table
from shared.cli.layout import Cell, Row
from shared.cli.options import AsCsv, AsJson, Catalog, Since, only_one
from shared.cli.parts import connector, known_catalogs
from shared.domain.course_run import rfc3339

_COLUMNS = ("at", "catalog", "courserunKey", "kind", "field", "before", "after")
_SHOWN = timedelta(days=7)


def changes(
    *,
    since: Since = None,
    catalog: Catalog = None,
    key: Annotated[str, typer.Option("--key", help="Only the course run with this key.")] = "",
    as_csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Show the changes that each sync made in the answer, newest first. Kept for 90 days.

    Without --since: the last 7 days.
    """
    only_one(csv=as_csv, json=as_json)
    oldest = since or datetime.now(UTC) - _SHOWN
    found = list(changes_since(oldest, known_catalogs(catalog), key))
    if as_json:
        print_json(found)
        return
    if as_csv:
        rows = [row for change in found for row in _rows(change)]
        print_csv([*_COLUMNS, "why"], [[*row.cells, row.note] for row in rows])
        return
    changes_table(found)
    comment(f"{counted(len(found), 'change')} since {rfc3339(oldest)}")


def changes_table(found: Sequence[dict[str, Any]]) -> None:
    """Print changes, one row per changed field."""
    print_table(
        _COLUMNS, [row for change in found for row in _rows(change)], title="courserunKey", note="why"
    )


def changes_since(since: datetime | None, catalogs: list[int], key: str = "") -> Iterator[dict[str, Any]]:
    """Yield the changes of catalogs in the form of the contract, newest first."""
    newest_first = merge(
        *(_of_catalog(catalog_id, since, key) for catalog_id in catalogs),
        key=lambda change: str(change["at"]),
        reverse=True,
    )
    yield from newest_first


def _of_catalog(catalog_id: int, since: datetime | None, key: str) -> Iterator[dict[str, Any]]:
    for published in connector().tables.history.pages(catalog_id, since):
        for entry in published.entries:
            if not key or entry.courserun_key == key:
                yield entry.as_json(rfc3339(published.at), catalog_id)


def _rows(change: dict[str, Any]) -> Iterator[Row]:
    """Yield one row per changed field; one row for any other kind of change."""
    why = str(change.get("reason") or change.get("note") or "")
    begin: list[Cell] = [
        change["at"],
        str(change["catalogId"]),
        change.get("courserunKey", ""),
        change["kind"],
    ]
    if change["kind"] == "first-sync":
        yield Row([*begin, "", "", ""], counted(change["runs"], "course run"))
        return
    for name, sides in change.get("fields", {"": {}}).items():
        before, after = (_text(sides.get(side)) for side in ("before", "after"))
        # The note explains the new modularCredit.
        yield Row([*begin, name, before, after], why if name in ("", "modularCredit") else "")


def _text(value: object) -> str:
    return "" if value is None else str(value)
