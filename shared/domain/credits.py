"""The numbers of modular credits that administrators approved for runs and courses.

Pure. Runs without an approval get the number that the formula in edx/mapping.py proposes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from shared.domain.course_run import MappedRun


class Approval(NamedTuple):
    """An approved number of modular credits for the run or course with this key."""

    key: str
    credit: int
    note: str
    by: str
    at: datetime  # aware, UTC

    def applied_to(self, mapped: MappedRun) -> MappedRun:
        """Return the run with the approved credit."""
        return mapped._replace(run=mapped.run.model_copy(update={"modular_credit": self.credit}))


class Approvals:
    """All approvals, read once for each sync.

    Attributes:
        malformed: one sentence for each entry that is ignored, saying what is wrong with it.
    """

    def __init__(self, approvals: Iterable[Approval] = (), malformed: Iterable[str] = ()) -> None:
        self._by_key = {approval.key: approval for approval in approvals}
        self.malformed = tuple(malformed)

    def __iter__(self) -> Iterator[Approval]:
        """Iterate over the well-formed approvals."""
        return iter(self._by_key.values())

    def of(self, mapped: MappedRun) -> Approval | None:
        """Return the approval that applies to a run: its own, otherwise its course's."""
        own = self._by_key.get(mapped.run.courserun_key)
        if own is None and mapped.course_key is not None:
            return self._by_key.get(mapped.course_key)
        return own
