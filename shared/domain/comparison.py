"""What the records of a pull mean for the stored course runs of a catalog. Pure.

It compares digests, so that an unchanged run costs nothing. Run ids are packed UUIDs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple
from uuid import UUID

from shared.domain.course_run import MappedRun, Rejection, availability, course_run_id, stored_json
from shared.domain.published import DIGEST_BYTES, WITHDRAWN, ServedRun, digest, served

UNREADABLE = b"\xff" * DIGEST_BYTES
"""The digest of a stored run whose record could not be mapped at the last sync that counted, or whose row
cannot be read: it differs from every content, so that a record that can be mapped is written."""

UNLISTED = b"\xfe" * DIGEST_BYTES
"""The digest of a stored run that was served and that edX does not publish any more."""

NOT_SERVED = {WITHDRAWN, UNLISTED}

ChangeKind = Literal["created", "changed", "restored"]
LossReason = Literal["missing", "unpublished", "ended", "unmappable"]


class Change(NamedTuple):
    """A course run that must be written."""

    kind: ChangeKind
    mapped: MappedRun
    size: int  # bytes of its JSON

    @property
    def run_id(self) -> bytes:
        """The id of the run, packed."""
        return UUID(self.mapped.run.id).bytes


class Comparison:
    """Takes in the records of a pull, one by one, and says what must be written.

    A change that takes a run out of the answer (edX does not publish it any more, or moved its end into the
    past) is kept back until the guard has looked at all of them: `compare` returns None for it, and
    `release` returns it.

    Args:
        known: run id → digest of every stored run; changed as runs are compared.
        moment: the time of the pull (RFC 3339, UTC), by which a run has ended or has not.

    Attributes:
        shown: what each mapped run looks like to callers; None when edX does not publish it.
        changes: the runs that have to be written, and how each changed.
        before: the digests that changed runs had.
        rejections: the records that could not be mapped.
        unknown_tracks: edX tracks without a contract type, and how many runs have each.
    """

    def __init__(self, known: dict[bytes, bytes], moment: str) -> None:
        self.digests = known
        self.shown: dict[bytes, ServedRun | None] = {}
        self.changes: dict[bytes, ChangeKind] = {}
        self.before: dict[bytes, bytes] = {}
        self.rejections: list[Rejection] = []
        self.unknown_tracks: Counter[str] = Counter()
        self._moment = moment
        self._seen: dict[bytes, bool] = {}  # and whether the record was a published one
        self._rejected: dict[bytes, Rejection] = {}
        self._kept_back: dict[bytes, Change] = {}

    def begin_pull(self) -> None:
        """Forget which runs were seen: a second pull decides again what is gone."""
        for forgotten in (self._seen, self._rejected, self._kept_back, self.rejections, self.unknown_tracks):
            forgotten.clear()

    def compare(self, record: MappedRun | Rejection) -> Change | None:
        """Take in a record, and return the change to write; None when there is nothing to write (yet).

        Of several records of one run the first counts, but a published one wins over one that is not.
        """
        if isinstance(record, Rejection):
            self._reject(record)
            return None
        run_id = UUID(record.run.id).bytes
        if run_id in self._seen and (self._seen[run_id] or not record.listed):
            return None
        self._seen[run_id] = record.listed
        if record.unknown_track:
            self.unknown_tracks[record.unknown_track] += 1
        run_json = stored_json(record.run)
        self.shown[run_id] = served(record, run_json)
        self._kept_back.pop(run_id, None)
        content = digest(record, run_json)
        before = self.digests.get(run_id)
        if before == content or (before == UNLISTED and not record.listed):
            return None
        kind: ChangeKind = "created" if before is None else "restored" if before in NOT_SERVED else "changed"
        change = Change(kind, record, len(run_json))
        if kind == "changed" and not is_open(self.shown[run_id], self._moment):
            self._kept_back[run_id] = change
            return None
        self._note(run_id, content, kind)
        return change

    def refuse(self, mapped: MappedRun, reason: str) -> None:
        """Take back a run that storage refused: it counts as rejected, and what is stored of it stays."""
        run_id = UUID(mapped.run.id).bytes
        self.digests[run_id] = UNREADABLE
        if self.changes.pop(run_id, None) == "created":
            del self.digests[run_id]
        self.shown.pop(run_id, None)
        self._seen.pop(run_id, None)
        self._reject(Rejection(mapped.run.courserun_key, "entity", reason))

    def _note(self, run_id: bytes, content: bytes, kind: ChangeKind) -> None:
        if run_id in self.digests:
            self.before.setdefault(run_id, self.digests[run_id])
        self.digests[run_id] = content
        self.changes.setdefault(run_id, kind)

    def _reject(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)
        if rejection.run_key:
            self._rejected.setdefault(UUID(course_run_id(rejection.run_key)).bytes, rejection)

    # What the pull means once it has ended

    @property
    def unidentified(self) -> int:
        """How many records have no key that can be read: each could be any run."""
        return sum(not rejection.run_key for rejection in self.rejections)

    def missing(self) -> list[bytes]:
        """Return the stored runs that edX does not show any more. A rejected run has not disappeared."""
        return [
            run_id
            for run_id, content in self.digests.items()
            if content != WITHDRAWN and run_id not in self._seen and run_id not in self._rejected
        ]

    def departures(self) -> dict[LossReason, list[bytes]]:
        """Return the runs that would be lost without being missing, by reason; callers may not see them all.

        A run that could not be mapped at the last sync that counted either is not lost once more.
        """
        rejected = self._rejected_and_served()
        kept_back = self._kept_back.items()
        return {
            "unpublished": [
                *(run_id for run_id, change in kept_back if not change.mapped.listed),
                *self.unpublished_rejections(),
            ],
            "ended": [run_id for run_id, change in kept_back if change.mapped.listed],
            "unmappable": [
                run_id
                for run_id, rejection in rejected.items()
                if not rejection.is_unpublished and self.digests[run_id] != UNREADABLE
            ],
        }

    def unpublished_rejections(self) -> list[bytes]:
        """Return the stored runs whose record cannot be mapped, but says that edX does not publish them."""
        return [
            run_id for run_id, rejection in self._rejected_and_served().items() if rejection.is_unpublished
        ]

    def has_rejected_runs_still_served(self) -> bool:
        """Tell whether a rejected run has an earlier version that goes on being served."""
        return bool(self._rejected_and_served())

    def _rejected_and_served(self) -> dict[bytes, Rejection]:
        return {
            run_id: rejection
            for run_id, rejection in self._rejected.items()
            if run_id not in self._seen and self.digests.get(run_id, WITHDRAWN) not in NOT_SERVED
        }

    def release(self, was_served: Iterable[bytes], stopped: Iterable[bytes] = ()) -> list[Change]:
        """Return the changes that were kept back, less those of runs that the guard does not let go.

        Args:
            was_served: the runs that callers see now.
            stopped: runs that must stay in the answer as they are.
        """
        served_now, staying = set(was_served), set(stopped)
        released = []
        for run_id, change in self._kept_back.items():
            if run_id in staying:
                self.shown.pop(run_id, None)
                continue
            run_json = stored_json(change.mapped.run)
            leaves_unpublished = not change.mapped.listed and run_id in served_now
            content = UNLISTED if leaves_unpublished else digest(change.mapped, run_json)
            self._note(run_id, content, change.kind)
            released.append(change)
        self._kept_back.clear()
        return released

    def note_unlisted(self, run_ids: Iterable[bytes]) -> None:
        """Note that runs whose record cannot be mapped left the answer because edX does not publish them."""
        for run_id in run_ids:
            self._note(run_id, UNLISTED, "changed")
            self.shown[run_id] = None

    def note_unmappable(self, run_ids: Iterable[bytes]) -> bool:
        """Note, at a sync that counts, whose record cannot be mapped; return whether that is news."""
        news = [run_id for run_id in run_ids if self.digests[run_id] != UNREADABLE]
        for run_id in news:
            self.digests[run_id] = UNREADABLE
        return bool(news)

    def note_withdrawn(self, run_ids: Iterable[bytes]) -> None:
        """Note that runs were withdrawn."""
        for run_id in run_ids:
            self.before.setdefault(run_id, self.digests[run_id])
            self.digests[run_id] = WITHDRAWN
            # A first pull that was not whole may have seen it.
            self.shown.pop(run_id, None)
            self.changes.pop(run_id, None)


def is_open(run: ServedRun | None, moment: str) -> bool:
    """Tell whether callers see a run at a moment: edX publishes it and it has not ended."""
    return run is not None and availability(run.start_date, run.end_date, moment) is not None
