"""The history of changes in the answer: one row for each sync that changed it, in the catalog's partition.

    changes-<newest first>-<generation>               the entries of one sync, or how many parts hold them
    changes-part-<newest first>-<generation>-<nnnn>   those of a large one

The row is written in the batch that replaces the head; a sync that is killed before leaves only parts, which
are never read. Both kinds of row are removed after 90 days.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args

from shared.domain.changes import Entry, Kind, Reason
from shared.domain.published import checksum
from shared.storage.entities import Entity, moment_from, newest_first_key
from shared.storage.parts import PART_BYTES, part_data, part_properties, parts_of
from shared.storage.table import Table

KEPT = timedelta(days=90)
_PAGE_ROWS = 20  # one row per sync; most callers want only the last few, and a row can be large
_ROWS_FILTER = "PartitionKey eq @catalog and RowKey ge @newest and RowKey lt @end"
_OLD = (
    "PartitionKey eq @catalog and ((RowKey gt @row and RowKey lt 'changes-:') "
    "or (RowKey gt @part and RowKey lt 'changes-part-:'))"
)  # a colon comes after every digit


class Published(NamedTuple):
    """What one sync published: the time, the generation and the changes."""

    at: datetime
    generation: str
    entries: tuple[Entry, ...]


class History:
    """Reads the history. Thread-safe; every method does I/O and may raise StorageError."""

    def __init__(self, table: Table, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._table = table
        self._now = now

    def pages(
        self, catalog_id: int, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Published]:
        """Yield what syncs of a catalog published, newest first; storage is read lazily, page by page.

        Args:
            catalog_id: the edX catalog.
            since: the earliest time; entries older than 90 days are never returned.
            until: the latest time.
        """
        oldest = self._now() - KEPT
        since = max(since, oldest) if since else oldest
        newest = f"changes-{newest_first_key(until)}" if until else "changes-0"
        bounds = {
            "catalog": str(catalog_id),
            "newest": newest,
            "end": f"changes-{newest_first_key(since)}:",  # ":" sorts after all rows of that time
        }
        for row in self._table.query(_ROWS_FILTER, bounds, page_rows=_PAGE_ROWS):
            published = self._read(row)
            if published and since <= published.at and (until is None or published.at <= until):
                yield published

    def _read(self, row: Entity) -> Published | None:
        """Read a row; None when its format is unknown or its parts have been removed."""
        at, generation = moment_from(row.get("at")), row.get("generation")
        if at is None or not isinstance(generation, str):
            return None
        with suppress(KeyError, TypeError, ValueError, zlib.error):
            data = part_data(row)
            for number in range(int(row.get("parts", 0))):
                part = self._table.get(row["PartitionKey"], _part_key(at, generation, number))
                if part is None:
                    return None
                data += part_data(part)
            if checksum(data) == row.get("checksum"):
                entries = json.loads(zlib.decompress(data))
                return Published(at, generation, tuple(_entry_from(entry) for entry in entries))
        return None


def change_rows(
    catalog: str, at: datetime, generation: str, entries: Sequence[Entry]
) -> tuple[Entity | None, list[Entity]]:
    """Return the row with the changes of a sync (None without changes) and the parts to write before it."""
    if not entries:
        return None, []
    text = json.dumps([_properties(entry) for entry in entries], ensure_ascii=False, separators=(",", ":"))
    data = zlib.compress(text.encode(errors="replace"))  # a note can hold a lone surrogate
    row: Entity = {
        "PartitionKey": catalog,
        "RowKey": f"changes-{newest_first_key(at)}-{generation}",
        "at": at.isoformat(),
        "generation": generation,
        "checksum": checksum(data),
    }
    if len(data) <= PART_BYTES:
        return row | part_properties(data), []
    parts: list[Entity] = [
        {"PartitionKey": catalog, "RowKey": _part_key(at, generation, number), **part_properties(part)}
        for number, part in enumerate(parts_of(data))
    ]
    return row | {"parts": len(parts)}, parts


def old_change_rows(table: Table, catalog: str, now: datetime) -> Iterator[Entity]:
    """Yield the keys of rows and parts that are older than 90 days."""
    oldest = newest_first_key(now - KEPT)
    bounds = {"catalog": catalog, "row": f"changes-{oldest}:", "part": f"changes-part-{oldest}:"}
    return table.query(_OLD, bounds, select=["PartitionKey", "RowKey"])


def _part_key(at: datetime, generation: str, number: int) -> str:
    return f"changes-part-{newest_first_key(at)}-{generation}-{number:04d}"


def _properties(entry: Entry) -> dict[str, Any]:
    values = {
        "kind": entry.kind,
        "key": entry.courserun_key,
        "id": entry.id,
        "reason": entry.reason,
        "fields": entry.fields,
        "note": entry.note,
        "runs": entry.runs,
    }
    return {name: value for name, value in values.items() if value not in (None, "", {})}


def _entry_from(values: dict[str, Any]) -> Entry:
    kind, reason = values["kind"], values.get("reason")
    if kind not in get_args(Kind) or reason not in (None, *get_args(Reason)):
        raise ValueError("the format of the entry is unknown")
    return Entry(
        kind=kind,
        courserun_key=str(values.get("key", "")),
        id=str(values.get("id", "")),
        reason=reason,
        fields=values.get("fields", {}),
        note=values.get("note"),
        runs=values.get("runs"),
    )
