"""The catalogs that edX lists for us, and when a new list is a failure rather than news. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from shared.errors import EdxProtocolError


class CatalogList(NamedTuple):
    """The catalogs that edX listed for us.

    Attributes:
        catalog_ids: in ascending order.
        listed_at: when (aware, UTC).
        left: catalogs that an earlier list had and this one has not.
    """

    catalog_ids: tuple[int, ...]
    listed_at: datetime
    left: tuple[int, ...] = ()


def listed_now(known: CatalogList | None, listed: tuple[int, ...], at: datetime) -> CatalogList:
    """Return the list that follows from what edX lists now.

    Raises:
        EdxProtocolError: edX left out every catalog, or at least half of them and more than one: the known
            list stays. (A broken search and a lost permission take catalogs out without a word.)
    """
    before = set(known.catalog_ids) if known else set()
    lost = before - set(listed)
    if lost and (not listed or (len(lost) > 1 and len(lost) * 2 >= len(before))):
        raise EdxProtocolError(
            f"edX lists {len(listed)} catalogs and left out {len(lost)} of the {len(before)} that it listed "
            f"before ({', '.join(map(str, sorted(lost)))}); the known list stays"
        )
    left = (set(known.left) if known else set()) | lost
    return CatalogList(tuple(sorted(listed)), at, tuple(sorted(left - set(listed))))
