"""The stored state of a catalog when a sync begins: digests to compare with, and the served runs.

It is read from the published state, or from the stored course runs if that is damaged or out of date. Bodies
are read only when a sync needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from shared.domain.comparison import UNPUBLISHED, UNREADABLE, Change
from shared.domain.course_run import stored_json
from shared.domain.published import WITHDRAWN, Head, ServedRun, digest, served, served_runs, unpack
from shared.storage.store import CatalogStore, StateDamaged

T = TypeVar("T")


class _ReadOnce(Generic[T]):
    """A property that is read at its first use.

    Below Python 3.12, `functools.cached_property` keeps one lock for all instances while it reads, so that a
    slow read of one catalog would delay the syncs of all others.
    """

    def __init__(self, read: Callable[[StoredState], T]) -> None:
        self._read = read

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, state: StoredState, _owner: type) -> T:
        value = state.__dict__[self._name] = self._read(state)
        return value


class StoredState:
    """The state of one catalog before a sync.

    Attributes:
        head: the head of the published state; None when there is none.
        digests: run id → digest of every stored run; the comparison updates this dict in place.
        published_digests: the digests of the published state; None when they cannot be read. The same dict as
            `digests` unless `is_rebuilt`.
        is_rebuilt: whether `digests` was computed from the course runs; then the state is published again.
    """

    def __init__(self, store: CatalogStore, catalog_id: int, *, rebuild: bool) -> None:
        self._store = store
        self._catalog_id = catalog_id
        self.head: Head | None = store.head(catalog_id)
        published = self._published_digests()
        trusted = None if rebuild or (self.head and self.head.writing) else published
        self.is_rebuilt = trusted is None
        self._rows: dict[str, ServedRun] | None = None
        self.rows_before: dict[str, ServedRun | None] = {}
        """Run id → stored version of changed runs that were not in the published body."""
        if trusted is None:
            self.digests, self._rows = read_runs(store, catalog_id)
            self._keep_marks(published or {})
        else:
            self.digests = trusted
        self.published_digests: Mapping[str, bytes] | None = published

        self.was_never_published = (
            not self.digests
            if self.head is None
            else not self.head.generation and self.head.writing != "unknown"
        )
        """True if no sync of this catalog has published yet; the history then notes a first sync."""

    def _published_digests(self) -> dict[str, bytes] | None:
        if self.head is None or not self.head.generation:
            return None
        try:
            return self._store.digests(self._catalog_id, self.head)
        except StateDamaged:
            return None

    def _keep_marks(self, published: Mapping[str, bytes]) -> None:
        """Copy the marks for unmappable and unpublished runs, which cannot be computed from the rows."""
        for run_id, mark in published.items():
            if mark in {UNREADABLE, UNPUBLISHED} and self.digests.get(run_id, WITHDRAWN) != WITHDRAWN:
                is_served = self._rows is not None and run_id in self._rows
                if is_served == (mark == UNREADABLE):
                    self.digests[run_id] = mark

    def count_runs(self) -> int:
        """Count the stored runs that have not been withdrawn."""
        return sum(content != WITHDRAWN for content in self.digests.values())

    @_ReadOnce
    def body(self) -> dict[str, ServedRun] | None:
        """The published runs by run id; None when they cannot be read."""
        if self.head is None or not self.head.generation:
            return None
        try:
            return dict(served_runs(unpack(self._store.body(self._catalog_id, self.head))))
        except StateDamaged:
            return None

    @_ReadOnce
    def kept(self) -> Mapping[str, ServedRun]:
        """The runs to keep serving when a pull did not return them."""
        if self._rows is not None:
            return self._rows
        if self.body is not None:
            return self.body
        return read_runs(self._store, self._catalog_id)[1]

    def note_row_before(self, change: Change) -> None:
        """Read the stored version of a changed run before it is overwritten, unless the body contains it."""
        if change.kind == "changed" and self.body is not None and change.run_id not in self.body:
            stored = self._store.run(self._catalog_id, change.mapped.run.id)
            if stored is not None and stored.mapped is not None:
                self.rows_before[change.run_id] = served(stored.mapped, stored_json(stored.mapped.run))

    @_ReadOnce
    def counted(self) -> Mapping[str, str | None]:
        """The runs in the answer after the last successful sync: run id → end date, as known then."""
        runs: Mapping[str, ServedRun] | None = None
        if self.head is not None and self.head.counted_generation:
            with suppress(StateDamaged):
                body = self._store.counted_body(self._catalog_id, self.head)
                runs = dict(served_runs(unpack(body)))
        if runs is None:
            runs = self.kept if self.body is None else self.body
        return {run_id: run.end_date for run_id, run in runs.items()}


def read_runs(store: CatalogStore, catalog_id: int) -> tuple[dict[str, bytes], dict[str, ServedRun]]:
    """Compute the digests and the runs to serve from the stored course runs."""
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
