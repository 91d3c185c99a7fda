"""What a sync changed in the answer: the entries of the history, and how two states of a run differ.

Pure. `serving` reads entries back, `storage/history.py` keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["added", "changed", "restored", "removed", "first-sync"]
Reason = Literal["missing", "unpublished", "ended"]
"""Why a run was removed: edX no longer shows it, does not publish it, or moved its end into the past."""

Fields = Mapping[str, Mapping[str, object]]
"""Contract field → `before` and `after`; a side that is unknown is left out."""

_MOVES_WITH_THE_CLOCK = "availability"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of one run, or the first sync of a catalog (then with the number of `runs`).

    `note` is that of the approval which the new modularCredit follows from.
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
    """Return the contract fields of a run that differ, less those that move with the clock."""
    names = sorted((before.keys() | after.keys()) - {_MOVES_WITH_THE_CLOCK})
    return {
        name: {
            side: values[name] for side, values in (("before", before), ("after", after)) if name in values
        }
        for name in names
        if before.get(name) != after.get(name)
    }
