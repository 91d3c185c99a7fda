"""Approved credits: how many modular credits administrators decided that a run or a course is worth.

Pure. The formula in edx/mapping.py is a proposal for the runs that nobody has decided on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from shared.domain.course_run import MappedRun


class Approval(NamedTuple):
    """A decision: the run or course of this key is worth that many modular credits."""

    key: str
    credit: int
    note: str
    by: str
    at: datetime  # aware, UTC

    def applied_to(self, mapped: MappedRun) -> MappedRun:
        """Return the run with the credit that was approved for it."""
        return mapped._replace(run=mapped.run.model_copy(update={"modular_credit": self.credit}))


class Approvals:
    """All approvals, as one sync reads them.

    Attributes:
        malformed: what is wrong with each entry that does not count, one sentence each.
    """

    def __init__(self, approvals: Iterable[Approval] = (), malformed: Iterable[str] = ()) -> None:
        self._by_key = {approval.key: approval for approval in approvals}
        self.malformed = tuple(malformed)

    def __iter__(self) -> Iterator[Approval]:
        """Return those that count."""
        return iter(self._by_key.values())

    def of(self, mapped: MappedRun) -> Approval | None:
        """Return the approval that counts for a run: its own, else its course's."""
        own = self._by_key.get(mapped.run.courserun_key)
        if own is None and mapped.course_key is not None:
            return self._by_key.get(mapped.course_key)
        return own
