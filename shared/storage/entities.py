"""Converts course runs, heads, reports and attempts to and from Table Storage entities. Pure.

Another version, or a person, may have written what is read; each reader says how it treats unknown content.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from shared.domain.attempts import Attempts
from shared.domain.course_run import CourseRun, MappedRun, Rejection, StoredRun, course_run_id
from shared.domain.published import Head
from shared.domain.sync_report import SyncReport
from shared.errors import Failure

Entity = dict[str, Any]

HEAD_KEY = "published"
_HEAD_FORMAT = 1
_KEY_MAX_MS = 10**14
_TEXT_MAX = 30_000  # characters; a text property holds at most 64 KiB of UTF-16


def run_entity(catalog: str, mapped: MappedRun) -> Entity:
    """Return the entity of a course run: the contract's fields without `availability`."""
    values = mapped.run.model_dump(by_alias=True, exclude_none=True, exclude={"id", "availability"})
    notes = {"courseKey": mapped.course_key, "proposedCredit": mapped.proposed_credit}
    return {
        "PartitionKey": catalog,
        "RowKey": mapped.run.id,
        **values,
        "listed": mapped.is_published,
        **{name: value for name, value in notes.items() if value is not None},
    }


def stored_run(entity: Entity) -> StoredRun:
    """Read a course run entity; its row key must be a UUID."""
    withdrawn_at = entity.get("withdrawnAt")
    return StoredRun(
        entity["RowKey"].lower(), _run_from(entity), None if withdrawn_at is None else str(withdrawn_at)
    )


def _run_from(entity: Entity) -> MappedRun | None:
    """Read a course run; return None when a property has an unexpected type or value."""
    values = {name: entity[name] for name in _RUN_PROPERTIES if name in entity}
    listed = entity.get("listed")
    try:
        run = CourseRun.model_validate({"id": entity["RowKey"], **values}, strict=True)
    except ValidationError:
        return None
    if not isinstance(listed, bool) or run.id != course_run_id(run.courserun_key):
        return None
    course_key, credit = entity.get("courseKey"), entity.get("proposedCredit")
    return MappedRun(
        run,
        listed,
        course_key=course_key if isinstance(course_key, str) else None,
        proposed_credit=credit if type(credit) is int else None,
    )


_RUN_PROPERTIES = [
    info.alias or name for name, info in CourseRun.model_fields.items() if name not in {"id", "availability"}
]


def head_properties(head: Head) -> Entity:
    """Return the properties of a head."""
    return {"format": _HEAD_FORMAT, **_properties(head)}


def head_from(entity: Entity) -> Head:
    """Read a head; a head in an unknown format is treated as never published."""
    values = {each.name: entity[each.name] for each in fields(Head) if each.name in entity}
    if not values.get("generation"):
        return Head(writing=str(values.get("writing", "unknown")))
    head = Head(**values | {"synced_at": moment_from(values.get("synced_at"))})
    types_fit = all(
        isinstance(
            values.get(each.name, each.default if each.name in _HEAD_OPTIONAL else None), type(each.default)
        )
        for each in fields(Head)
        if each.name != "synced_at"
    )
    # Row keys do not allow every character: a query for the parts of such a generation would fail.
    if (
        entity.get("format") != _HEAD_FORMAT
        or not types_fit
        or not re.fullmatch("[a-z0-9]+", head.generation)
    ):
        return Head(writing="unknown")
    return head


_HEAD_OPTIONAL = {"counted_generation", "counted_body_parts", "counted_body_checksum"}
"""Fields that heads of version 0.1 do not have."""


def report_entity(report: SyncReport) -> Entity:
    """Return the entity of a report; each rejection has the three values that versions before 0.2 read."""
    rejections = [(each.run_key, each.field, each.reason) for each in report.rejections]
    return {
        "PartitionKey": str(report.catalog_id),
        "RowKey": f"{newest_first_key(report.ended)}-{report.sync_id}",
        **_properties(report),
        "rejections": _property(rejections),
    }


def report_from(row: Entity) -> SyncReport:
    """Read a report.

    Raises:
        KeyError, TypeError, ValueError: the entity is not in the format of this version.
    """
    values = {each.name: row[each.name] for each in fields(SyncReport) if each.name in row}
    for name in ("started", "ended", "throttled_until"):
        values[name] = moment_from(values.get(name))
    if not values["started"] or not values["ended"]:
        raise ValueError("a report without its times")
    values["rejections"] = tuple(Rejection(*each) for each in json.loads(values["rejections"]))
    values["unknown_tracks"] = json.loads(values["unknown_tracks"])
    values["warnings"] = tuple(json.loads(values.get("warnings", "[]")))
    return SyncReport(**values)


def newest_first_key(moment: datetime) -> str:
    """Return a key that sorts newest first."""
    return f"{_KEY_MAX_MS - int(moment.timestamp() * 1000):014d}"


def failure_properties(failure: Failure | None) -> Entity:
    """Return a failure as properties; all are empty when there is none."""
    kind, message, retry_at = failure or Failure("", "")
    return {
        "error": message[:_TEXT_MAX],
        "errorClass": kind,
        "retryAt": retry_at.isoformat() if retry_at else "",
    }


def failure_from(entity: Entity) -> Failure | None:
    """Read the properties that `failure_properties` wrote; None when there was no failure."""
    kind, message = (str(entity.get(name, "")) for name in ("errorClass", "error"))
    return Failure(kind, message, moment_from(entity.get("retryAt"))) if message else None


def attempts_properties(attempts: Attempts) -> Entity:
    """Return attempts as properties; all of them are always set, so that a merge replaces every old value."""
    kind, message, retry_at = attempts.failure or Failure("", "")
    moments = {
        "attemptedAt": attempts.attempted_at,
        "succeededAt": attempts.succeeded_at,
        "failedAt": attempts.failed_at,
        "failureRetryAt": retry_at,
    }
    return {
        **{name: moment.isoformat() if moment else "" for name, moment in moments.items()},
        "failuresInARow": attempts.failures,
        "failureClass": kind,
        "failure": message[:_TEXT_MAX],
    }


def attempts_from(entity: Entity) -> Attempts:
    """Read the properties that `attempts_properties` wrote; missing or malformed values count as never."""
    kind, message = (str(entity.get(name, "")) for name in ("failureClass", "failure"))
    failures = entity.get("failuresInARow")
    return Attempts(
        attempted_at=moment_from(entity.get("attemptedAt")),
        succeeded_at=moment_from(entity.get("succeededAt")),
        failures=failures if type(failures) is int and failures > 0 else 0,
        failed_at=moment_from(entity.get("failedAt")),
        failure=Failure(kind, message, moment_from(entity.get("failureRetryAt"))) if message else None,
    )


def moment_from(value: object) -> datetime | None:
    """Read an ISO 8601 time; None when it is malformed or has no UTC offset."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _properties(value: Head | SyncReport) -> Entity:
    return {name: _property(each) for name, each in asdict(value).items() if each is not None}


def _property(value: object) -> object:
    """Return a value as a table property: times as ISO 8601, collections as JSON; long values are cut."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value[:_TEXT_MAX]
    if isinstance(value, (Mapping, Sequence)):
        return _json_that_fits(value)
    return value


def _json_that_fits(value: Mapping[str, object] | Sequence[object]) -> str:
    """Return JSON that fits a property; a longer collection is cut at its end."""
    items = list(value.items()) if isinstance(value, Mapping) else list(value)
    while True:
        text = json.dumps(dict(items) if isinstance(value, Mapping) else items)  # type: ignore[arg-type]
        if len(text) <= _TEXT_MAX:
            return text
        items = items[: len(items) // 2]
