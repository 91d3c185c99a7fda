"""The entries of the history: how the runs that callers see differ before and after a sync.

Pure. `storage/history.py` stores the entries, `serving/history.py` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import from_json

from shared.domain.comparison import NOT_SERVED, is_open
from shared.domain.published import ServedRun

Kind = Literal["added", "changed", "restored", "removed", "first-sync"]
Reason = Literal["missing", "unpublished", "ended"]
"""Why a run was removed: edX no longer returns it, no longer publishes it, or moved its end into the past."""

Fields = Mapping[str, Mapping[str, object]]
"""Contract field → `before` and `after`; an unknown value is left out."""

_MOVES_WITH_THE_CLOCK = "availability"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of one run, or the first sync of a catalog (then with the number of `runs`).

    `note` is the note of the approval that set the new modularCredit.
    """

    kind: Kind
    courserun_key: str = ""
    id: str = ""
    reason: Reason | None = None
    fields: Fields = field(default_factory=dict)
    note: str | None = None
    runs: int | None = None

    def as_json(self, at: str, catalog_id: int) -> dict[str, Any]:
        """Return the entry as the contract shows it; `at` is the end of the sync that published it."""
        shown: dict[str, Any] = {"at": at, "catalogId": catalog_id}
        if self.kind == "first-sync":
            return shown | {"kind": self.kind, "runs": self.runs or 0}
        shown |= {"courserunKey": self.courserun_key, "id": self.id, "kind": self.kind}
        if self.reason:
            shown["reason"] = self.reason
        if self.kind == "changed":
            shown["fields"] = self.fields
        if self.note is not None:
            shown["note"] = self.note
        return shown


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> Fields:
    """Return the contract fields that differ between two states of a run; `availability` is ignored."""
    names = sorted((before.keys() | after.keys()) - {_MOVES_WITH_THE_CLOCK})
    return {
        name: {
            side: values[name] for side, values in (("before", before), ("after", after)) if name in values
        }
        for name in names
        if before.get(name) != after.get(name)
    }


def entries(
    before: Mapping[str, ServedRun],
    after: Mapping[str, ServedRun | None],
    touched: Iterable[str],
    *,
    moment: str,
    known: Mapping[str, bytes],
    rows_before: Mapping[str, ServedRun | None],
    notes: Mapping[str, str],
) -> list[Entry]:
    """Return the changes that callers see between two published states, sorted by `courserunKey`.

    Args:
        before: the runs of the body that was published, by run id.
        after: the runs that edX returns now; None when edX does not publish the run.
        touched: the runs that can differ.
        moment: now (RFC 3339, UTC). A run whose known end has passed left the answer then; this is no change.
        known: run id → digest before the sync.
        rows_before: the stored version of known runs that were not in the body (ended or unpublished).
        notes: run id → note of the approval that applies to the run.
    """
    found = []
    for run_id in touched:
        was, now_shown = before.get(run_id), after.get(run_id)
        was_open, is_open_now = is_open(was, moment), is_open(now_shown, moment)
        if now_shown is not None and is_open_now:
            found.append(_shown_entry(run_id, was, now_shown, known.get(run_id), rows_before, notes))
        elif was is not None and was_open:
            reason: Reason = (
                "ended" if now_shown is not None else "unpublished" if run_id in after else "missing"
            )
            found.append(Entry(kind="removed", courserun_key=was.courserun_key, id=run_id, reason=reason))
    return sorted((entry for entry in found if entry), key=lambda entry: entry.courserun_key)


def _shown_entry(  # noqa: PLR0917 - the two sides of one run
    run_id: str,
    was: ServedRun | None,
    now_shown: ServedRun,
    digest_before: bytes | None,
    rows_before: Mapping[str, ServedRun | None],
    notes: Mapping[str, str],
) -> Entry | None:
    after = from_json(now_shown.json)
    was = was or rows_before.get(run_id)
    if was is None:
        kind: Kind = "restored" if digest_before in NOT_SERVED else "added"
        return Entry(kind=kind, courserun_key=now_shown.courserun_key, id=after["id"])
    fields = differences(from_json(was.json), after)
    if not fields:
        return None
    note = notes.get(run_id) if "modularCredit" in fields else None
    return Entry(
        kind="changed", courserun_key=now_shown.courserun_key, id=after["id"], fields=fields, note=note
    )
