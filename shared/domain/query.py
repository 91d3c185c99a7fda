"""What a request asks for, as values; `api/contract.py` reads them from HTTP."""

from datetime import datetime
from typing import NamedTuple


class Freshness(NamedTuple):
    """What the request's Cache-Control says; seconds, None where it says nothing."""

    max_age_s: int | None = None
    only_if_cached: bool = False
    stale_if_error_s: int | None = None

    @property
    def is_unspoken(self) -> bool:
        """Tell whether the request leaves it to us how fresh the answer must be."""
        return self.max_age_s is None and not self.only_if_cached


class Question(NamedTuple):
    """What a request for course runs asks."""

    catalog_id: int | None = None
    courserun_key: str | None = None
    freshness: Freshness = Freshness()


class ChangesQuestion(NamedTuple):
    """What a request for the history asks.

    Attributes:
        since: only entries at or after this moment (aware, UTC).
        cursor: the place behind which the page begins, as an earlier answer named it.
    """

    since: datetime | None = None
    catalog_id: int | None = None
    courserun_key: str | None = None
    limit: int = 100
    cursor: str | None = None
