"""What is stored of a catalog when a sync begins: digests to compare with, and what callers see now.

Read from the published state; from the course runs themselves where that cannot be read or trusted. The
bodies are read only when a sync turns out to need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property

from shared.domain.comparison import UNLISTED, UNREADABLE, Change
from shared.domain.course_run import stored_json
from shared.domain.published import WITHDRAWN, Head, ServedRun, digest, served, served_runs, unpack
from shared.storage.store import CatalogStore, StateDamaged


class StoredState:
    """The state of one catalog before a sync.

    Attributes:
        head: the head of the published state; None when there is none.
        digests: run id → digest of every stored run; the comparison goes on with this very dict.
        published_digests: those of the published state; None when they cannot be read. The same dict as
            `digests` unless that comes from the course runs.
        is_rebuilt: whether `digests` comes from the course runs, so that the state must be published again.
    """

    def __init__(self, store: CatalogStore, catalog_id: int, *, rebuild: bool) -> None:
        self._store = store
        self._catalog_id = catalog_id
        self.head: Head | None = store.head(catalog_id)
        published = self._published_digests()
        trusted = None if rebuild or (self.head and self.head.writing) else published
        self.is_rebuilt = trusted is None
        self._rows: dict[bytes, ServedRun] | None = None
        self.rows_before: dict[bytes, ServedRun | None] = {}
        """What was stored of runs that come into the answer without having been in the body before."""
        if trusted is None:
            self.digests, self._rows = read_runs(store, catalog_id)
            self._keep_marks(published or {})
        else:
            self.digests = trusted
        self.published_digests: Mapping[bytes, bytes] | None = published

        self.was_never_published = (
            not self.digests
            if self.head is None
            else not self.head.generation and self.head.writing != "unknown"
        )
        """Whether no sync of this catalog has ever published, so that its first one is no change."""

    def _published_digests(self) -> dict[bytes, bytes] | None:
        if self.head is None or not self.head.generation:
            return None
        try:
            return self._store.digests(self._catalog_id, self.head)
        except StateDamaged:
            return None

    def _keep_marks(self, published: Mapping[bytes, bytes]) -> None:
        """Keep what the rows cannot tell: which records could not be mapped, which runs were unpublished."""
        for run_id, mark in published.items():
            if mark in {UNREADABLE, UNLISTED} and self.digests.get(run_id, WITHDRAWN) != WITHDRAWN:
                is_served = self._rows is not None and run_id in self._rows
                if is_served == (mark == UNREADABLE):
                    self.digests[run_id] = mark

    def count_runs(self) -> int:
        """Count the stored runs that have not been withdrawn."""
        return sum(content != WITHDRAWN for content in self.digests.values())

    @cached_property
    def body(self) -> dict[bytes, ServedRun] | None:
        """What is published, by run id; None when it cannot be read."""
        if self.head is None or not self.head.generation:
            return None
        try:
            return dict(served_runs(unpack(self._store.body(self._catalog_id, self.head))))
        except StateDamaged:
            return None

    @cached_property
    def kept(self) -> Mapping[bytes, ServedRun]:
        """What goes on being shown of the runs that a pull did not bring."""
        if self._rows is not None:
            return self._rows
        if self.body is not None:
            return self.body
        return read_runs(self._store, self._catalog_id)[1]

    def note_row_before(self, change: Change) -> None:
        """Read what is stored of a run before it is written, where the published body does not show it."""
        if change.kind == "changed" and self.body is not None and change.run_id not in self.body:
            stored = self._store.run(self._catalog_id, change.mapped.run.id)
            if stored is not None and stored.mapped is not None:
                self.rows_before[change.run_id] = served(stored.mapped, stored_json(stored.mapped.run))

    @cached_property
    def counted(self) -> Mapping[bytes, str | None]:
        """What the last sync that counted left in the answer: run id → its end, as known then."""
        runs: Mapping[bytes, ServedRun] | None = None
        if self.head is not None and self.head.counted_generation:
            with suppress(StateDamaged):
                body = self._store.counted_body(self._catalog_id, self.head)
                runs = dict(served_runs(unpack(body)))
        if runs is None:
            runs = self.kept if self.body is None else self.body
        return {run_id: run.end_date for run_id, run in runs.items()}


def read_runs(store: CatalogStore, catalog_id: int) -> tuple[dict[bytes, bytes], dict[bytes, ServedRun]]:
    """Work out what the published state would hold of the stored runs: digests, and runs to serve."""
    digests = {}
    runs = {}
    for stored in store.runs(catalog_id):
        if stored.withdrawn_at is not None:
            digests[stored.run_id] = WITHDRAWN
        elif stored.mapped is None:
            digests[stored.run_id] = UNREADABLE
        else:
            run_json = stored_json(stored.mapped.run)
            digests[stored.run_id] = digest(stored.mapped, run_json)
            run = served(stored.mapped, run_json)
            if run:
                runs[stored.run_id] = run
    return digests, runs
