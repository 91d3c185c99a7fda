"""Stores the modular credits that administrators approved. edX does not have them: see docs/backup.md.

All entries are in one partition, so that a sync reads them with one query. The row key is the UUIDv5 of the
course or run key, because a key may contain characters that a row key may not.
"""

from collections.abc import Sequence

from shared.domain.course_run import RUN_KEY_MAX, course_run_id
from shared.domain.credits import Approval, Approvals
from shared.storage.entities import Entity, moment_from
from shared.storage.failures import EntityRefused
from shared.storage.table import OPERATIONS_PER_BATCH, Table, deleting, replacing

_PARTITION_KEY = "credits"


class Credits:
    """The approved credits. Thread-safe; every method does I/O and may raise StorageError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def all(self) -> Approvals:
        """Read all approvals; malformed entries are ignored and listed in `malformed`."""
        approvals: list[Approval] = []
        malformed: list[str] = []
        for entity in self._table.query("PartitionKey eq @credits", {"credits": _PARTITION_KEY}):
            read = _approval(entity)
            if isinstance(read, Approval):
                approvals.append(read)
            else:
                malformed.append(read)
        return Approvals(approvals, malformed)

    def set(self, approvals: Sequence[Approval]) -> None:
        """Write approvals; each replaces an earlier approval of the same key."""
        entities = list({approval.key: _entity(approval) for approval in approvals}.values())
        for start in range(0, len(entities), OPERATIONS_PER_BATCH):
            batch = entities[start : start + OPERATIONS_PER_BATCH]
            self._table.commit([replacing(entity) for entity in batch])

    def remove(self, key: str) -> bool:
        """Remove the approval of a key; False when there is none."""
        entity = _key(key)
        if self._table.get(entity["PartitionKey"], entity["RowKey"]) is None:
            return False
        try:
            self._table.commit([deleting(entity)])
        except EntityRefused as refusal:
            if not refusal.is_missing:  # otherwise an earlier try, whose answer was lost, has removed it
                raise
        return True


def _key(key: str) -> Entity:
    return {"PartitionKey": _PARTITION_KEY, "RowKey": course_run_id(key)}


def _entity(approval: Approval) -> Entity:
    return {
        **_key(approval.key),
        "key": approval.key,
        "credit": approval.credit,
        "note": approval.note,
        "by": approval.by,
        "at": approval.at.isoformat(),
    }


def _approval(entity: Entity) -> Approval | str:
    """Read an entry; return a sentence that says what is wrong when it is malformed."""
    row_key = entity["RowKey"]
    key, credit = entity.get("key"), entity.get("credit")
    at = moment_from(entity.get("at"))
    if not isinstance(key, str) or not 0 < len(key) <= RUN_KEY_MAX:
        return f"The approved credit in row {row_key!r} is ignored: it has no run or course key"
    if row_key != course_run_id(key):
        return f"The approved credit of {key} is ignored: row {row_key!r} belongs to another key"
    if type(credit) is not int or credit < 0:
        return f"The approved credit of {key} is ignored: it is not a whole number of 0 or more"
    note, by = entity.get("note"), entity.get("by")
    if at is None or not isinstance(note, str) or not isinstance(by, str):
        return f"The approved credit of {key} is ignored: it does not say who approved it, when and why"
    return Approval(key, credit, note, by, at)
