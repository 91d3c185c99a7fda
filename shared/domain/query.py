"""The parameters of a request as values; `api/contract.py` parses them from HTTP."""

from datetime import datetime
from typing import NamedTuple


class Freshness(NamedTuple):
    """The directives of the request's Cache-Control, in seconds; None for an absent directive."""

    max_age_s: int | None = None
    only_if_cached: bool = False
    stale_if_error_s: int | None = None

    @property
    def has_directive(self) -> bool:
        """Tell whether the request says how fresh the data must be; otherwise the default applies."""
        return self.max_age_s is not None


class Question(NamedTuple):
    """The parameters of a request for course runs."""

    catalog_id: int | None = None
    courserun_key: str | None = None
    freshness: Freshness = Freshness()


class ChangesQuestion(NamedTuple):
    """The parameters of a request for the history of changes.

    Attributes:
        since: only entries at or after this time (aware, UTC).
        cursor: where the page begins; taken from an earlier answer.
    """

    since: datetime | None = None
    catalog_id: int | None = None
    courserun_key: str | None = None
    limit: int = 100
    cursor: str | None = None
