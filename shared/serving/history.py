"""Answers requests for changes: the entries of the history of our catalogs, newest first, page by page.

Never calls edX. Reads only as much of the history as a page needs, for `READING_S` at most; a page that would
take longer ends early, and the next page continues there.
"""

import heapq
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shared.deadline import Deadline
from shared.domain.changes import Entry
from shared.domain.course_run import rfc3339
from shared.domain.query import ChangesQuestion
from shared.errors import BadRequest, NotFound
from shared.serving.flights import in_pool
from shared.serving.refreshing import CATALOG_NOT_FOUND
from shared.storage.history import History
from shared.sync.catalogs import OurCatalogs

READING_S = 20.0
"""The longest time to read for one page: finding the changes of one run can mean reading all 90 days."""

_CURSOR_MAX = 200
_PLACE = re.compile(r"([0-9T:.+-]{19,40})\|([1-9][0-9]{0,9})\|([\w-]{1,64})\|([0-9]{1,9})", re.ASCII)


class Page(NamedTuple):
    """Entries in the form of the contract; `cursor` is the beginning of the next page, or None at the end."""

    entries: list[dict[str, Any]]
    cursor: str | None


class _Place(NamedTuple):
    """The position of an entry: end of its sync, catalog, generation, and number in that generation."""

    at: datetime
    catalog_id: int
    generation: str
    number: int

    @property
    def order(self) -> tuple[int, int, str, int]:
        """The sort key: newest first, then by catalog; within a catalog in the order of the stored rows."""
        return -int(self.at.timestamp() * 1000), self.catalog_id, self.generation, self.number

    @property
    def newest_in_order(self) -> datetime:
        """The latest time that `order` does not distinguish from `at`, which can be another catalog's."""
        return self.at.replace(microsecond=self.at.microsecond // 1000 * 1000 + 999)


class ChangesReader:
    """Reads pages of the history."""

    def __init__(self, history: History, catalogs: OurCatalogs, *, pool: Executor) -> None:
        self._history = history
        self._catalogs = catalogs
        self._pool = pool

    async def read(self, question: ChangesQuestion, deadline: Deadline) -> Page:
        """Return the requested page.

        Raises:
            BadRequest: the cursor is malformed.
            NotFound: the catalog is not one of ours.
            StorageError: the history cannot be read.
        """
        behind = _place(question.cursor) if question.cursor else None
        return await in_pool(self._pool, deadline, self._read, question, behind, deadline.within(READING_S))

    def _read(self, question: ChangesQuestion, behind: _Place | None, until: Deadline) -> Page:
        known = self._catalogs.known()
        ids: Sequence[int] = known.catalog_ids if known else ()
        if question.catalog_id is not None:
            if question.catalog_id not in ids:
                raise NotFound(CATALOG_NOT_FOUND)
            ids = (question.catalog_id,)
        keys = _keys(question.courserun_key)
        shown: list[dict[str, Any]] = []
        looked_at: _Place | None = None
        shown_last: _Place | None = None
        streams = [self._entries(catalog_id, question.since, behind) for catalog_id in ids]
        for place, entry in heapq.merge(*streams, key=lambda each: each[0].order):
            if looked_at and until.has_passed:
                return Page(shown, _cursor(looked_at))
            if keys is None or entry.courserun_key in keys:
                if shown_last and len(shown) == question.limit:
                    return Page(shown, _cursor(shown_last))
                shown.append(entry.as_json(rfc3339(place.at), place.catalog_id))
                shown_last = place
            looked_at = place
        return Page(shown, None)

    def _entries(
        self, catalog_id: int, since: datetime | None, behind: _Place | None
    ) -> Iterator[tuple[_Place, Entry]]:
        """Yield the entries of a catalog after a position, newest first, reading lazily."""
        for published in self._history.pages(catalog_id, since, behind.newest_in_order if behind else None):
            for number, entry in enumerate(published.entries):
                place = _Place(published.at, catalog_id, published.generation, number)
                if behind is None or place.order > behind.order:
                    yield place, entry


def _keys(courserun_key: str | None) -> set[str] | None:
    # An unencoded plus sign in the URL was decoded as a space.
    return {courserun_key, courserun_key.replace(" ", "+")} if courserun_key is not None else None


def _cursor(place: _Place) -> str:
    text = f"{place.at.isoformat()}|{place.catalog_id}|{place.generation}|{place.number}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str) -> _Place:
    with suppress(ValueError, OverflowError):
        if len(cursor) <= _CURSOR_MAX:
            padded = cursor + "=" * (-len(cursor) % 4)
            match = _PLACE.fullmatch(urlsafe_b64decode(padded.encode("ascii")).decode("ascii"))
            if match:
                at = datetime.fromisoformat(match[1])
                return _Place(at.astimezone(UTC), int(match[2]), match[3], int(match[4]))
    raise BadRequest("cursor must be taken from the Link header of an earlier answer")
