"""Compares the records of a pull with the stored course runs of a catalog. Pure.

Digests are compared, so that an unchanged run is not read and not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from shared.domain.course_run import MappedRun, Rejection, availability, course_run_id, stored_json
from shared.domain.published import DIGEST_BYTES, WITHDRAWN, ServedRun, digest, served

UNREADABLE = b"\xff" * DIGEST_BYTES
"""The digest of a stored run whose record could not be mapped in the last successful sync, or whose row is
unreadable. It differs from every real digest, so that the next record that can be mapped is written."""

UNPUBLISHED = b"\xfe" * DIGEST_BYTES
"""The digest of a stored run that was served and that edX no longer publishes."""

NOT_SERVED = {WITHDRAWN, UNPUBLISHED}

ChangeKind = Literal["created", "changed", "restored"]
LossReason = Literal["missing", "unpublished", "ended", "unmappable"]


class Change(NamedTuple):
    """A course run that must be written."""

    kind: ChangeKind
    mapped: MappedRun
    size: int  # bytes of its JSON

    @property
    def run_id(self) -> str:
        """The id of the run, packed."""
        return self.mapped.run.id


class Comparison:
    """Compares the records of a pull one by one and returns the changes to write.

    A change that removes a run from the answer (edX no longer publishes it, or moved its end into the past)
    is delayed until the guard has checked all of them: `compare` returns None for it, `release` returns it.

    Args:
        known: run id → digest of every stored run; updated in place as runs are compared.
        moment: the time of the pull (RFC 3339, UTC); a run whose end is not later has ended.

    Attributes:
        shown: run id → the run as callers see it; None when edX does not publish it.
        changes: run id → how the run changed, for every run to write.
        before: run id → the digest before the change.
        rejections: the records that could not be mapped.
        unknown_tracks: number of runs by edX track that has no contract type.
    """

    def __init__(self, known: dict[str, bytes], moment: str) -> None:
        self.digests = known
        self.shown: dict[str, ServedRun | None] = {}
        self.changes: dict[str, ChangeKind] = {}
        self.before: dict[str, bytes] = {}
        self.rejections: list[Rejection] = []
        self.unknown_tracks: Counter[str] = Counter()
        self._moment = moment
        self._seen: dict[str, bool] = {}  # run id → is published
        self._rejected: dict[str, Rejection] = {}
        self._delayed: dict[str, Change] = {}

    def begin_pull(self) -> None:
        """Forget which runs were seen, because a second pull decides again which runs are missing."""
        for forgotten in (self._seen, self._rejected, self._delayed, self.rejections, self.unknown_tracks):
            forgotten.clear()

    def compare(self, record: MappedRun | Rejection) -> Change | None:
        """Compare a record; return the change to write, or None when there is nothing to write (yet).

        Of several records of one run the first published one is used, or the first one if none is published.
        """
        if isinstance(record, Rejection):
            self._reject(record)
            return None
        run_id = record.run.id
        if run_id in self._seen and (self._seen[run_id] or not record.is_published):
            return None
        self._seen[run_id] = record.is_published
        if record.unknown_track:
            self.unknown_tracks[record.unknown_track] += 1
        run_json = stored_json(record.run)
        self.shown[run_id] = served(record, run_json)
        self._delayed.pop(run_id, None)
        content = digest(record, run_json)
        before = self.digests.get(run_id)
        if before == content or (before == UNPUBLISHED and not record.is_published):
            return None
        kind: ChangeKind = "created" if before is None else "restored" if before in NOT_SERVED else "changed"
        change = Change(kind, record, len(run_json))
        if kind == "changed" and not is_open(self.shown[run_id], self._moment):
            self._delayed[run_id] = change
            return None
        self._note(run_id, content, kind)
        return change

    def refuse(self, mapped: MappedRun, reason: str) -> None:
        """Count a run that storage refused as rejected; its stored version stays."""
        run_id = mapped.run.id
        self.digests[run_id] = UNREADABLE
        if self.changes.pop(run_id, None) == "created":
            del self.digests[run_id]
        self.shown.pop(run_id, None)
        self._seen.pop(run_id, None)
        self._reject(Rejection(mapped.run.courserun_key, "entity", reason))

    def _note(self, run_id: str, content: bytes, kind: ChangeKind) -> None:
        if run_id in self.digests:
            self.before.setdefault(run_id, self.digests[run_id])
        self.digests[run_id] = content
        self.changes.setdefault(run_id, kind)

    def _reject(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)
        if rejection.run_key:
            self._rejected.setdefault(course_run_id(rejection.run_key), rejection)

    # Results at the end of the pull

    @property
    def unidentified(self) -> int:
        """The number of records without a readable key; each could belong to any run."""
        return sum(not rejection.run_key for rejection in self.rejections)

    def missing(self) -> list[str]:
        """Return the stored runs that edX no longer returns. A rejected run is not missing."""
        return [
            run_id
            for run_id, content in self.digests.items()
            if content != WITHDRAWN and run_id not in self._seen and run_id not in self._rejected
        ]

    def departures(self) -> dict[LossReason, list[str]]:
        """Return the runs that leave the answer although edX returns them, by reason.

        Some may not be served now. A run that was unmappable in the last successful sync is not lost again.
        """
        rejected = self._rejected_and_served()
        delayed = self._delayed.items()
        return {
            "unpublished": [
                *(run_id for run_id, change in delayed if not change.mapped.is_published),
                *self.unpublished_rejections(),
            ],
            "ended": [run_id for run_id, change in delayed if change.mapped.is_published],
            "unmappable": [
                run_id
                for run_id, rejection in rejected.items()
                if not rejection.is_unpublished and self.digests[run_id] != UNREADABLE
            ],
        }

    def unpublished_rejections(self) -> list[str]:
        """Return the stored runs whose record cannot be mapped but says that edX does not publish the run."""
        return [
            run_id for run_id, rejection in self._rejected_and_served().items() if rejection.is_unpublished
        ]

    def has_rejected_runs_still_served(self) -> bool:
        """Tell whether an earlier version of a rejected run is still served."""
        return bool(self._rejected_and_served())

    def _rejected_and_served(self) -> dict[str, Rejection]:
        return {
            run_id: rejection
            for run_id, rejection in self._rejected.items()
            if run_id not in self._seen and self.digests.get(run_id, WITHDRAWN) not in NOT_SERVED
        }

    def release(self, was_served: Iterable[str], stopped: Iterable[str] = ()) -> list[Change]:
        """Return the delayed changes, except those of runs that the guard stopped.

        Args:
            was_served: the runs that callers see now.
            stopped: the runs that must stay in the answer unchanged.
        """
        served_now, staying = set(was_served), set(stopped)
        released = []
        for run_id, change in self._delayed.items():
            if run_id in staying:
                self.shown.pop(run_id, None)
                continue
            run_json = stored_json(change.mapped.run)
            leaves_unpublished = not change.mapped.is_published and run_id in served_now
            content = UNPUBLISHED if leaves_unpublished else digest(change.mapped, run_json)
            self._note(run_id, content, change.kind)
            released.append(change)
        self._delayed.clear()
        return released

    def note_unpublished(self, run_ids: Iterable[str]) -> None:
        """Mark runs whose record cannot be mapped as no longer published by edX."""
        for run_id in run_ids:
            self._note(run_id, UNPUBLISHED, "changed")
            self.shown[run_id] = None

    def note_unmappable(self, run_ids: Iterable[str]) -> bool:
        """Mark runs whose record cannot be mapped, in a successful sync; return True if a mark is new."""
        news = [run_id for run_id in run_ids if self.digests[run_id] != UNREADABLE]
        for run_id in news:
            self.digests[run_id] = UNREADABLE
        return bool(news)

    def note_withdrawn(self, run_ids: Iterable[str]) -> None:
        """Mark runs as withdrawn."""
        for run_id in run_ids:
            self.before.setdefault(run_id, self.digests[run_id])
            self.digests[run_id] = WITHDRAWN
            # An incomplete first pull may have seen the run.
            self.shown.pop(run_id, None)
            self.changes.pop(run_id, None)


def is_open(run: ServedRun | None, moment: str) -> bool:
    """Tell whether callers see a run at a moment: edX publishes it and it has not ended."""
    return run is not None and availability(run.start_date, run.end_date, moment) is not None
