"""The catalogs that edX lists for our credentials, and when a new list is rejected as an error. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from shared.errors import EdxProtocolError


class CatalogList(NamedTuple):
    """The catalogs that edX lists for our credentials.

    Attributes:
        catalog_ids: in ascending order.
        listed_at: when (aware, UTC).
        left: catalogs that an earlier list contained and that edX no longer lists.
    """

    catalog_ids: tuple[int, ...]
    listed_at: datetime
    left: tuple[int, ...] = ()


def listed_now(known: CatalogList | None, listed: tuple[int, ...], at: datetime) -> CatalogList:
    """Return the new list of catalogs, built from the known list and what edX lists now.

    Raises:
        EdxProtocolError: edX left out every catalog, or at least half of them and more than one. The known
            list stays: edX also leaves catalogs out when its search is broken or a permission was lost.
    """
    before = set(known.catalog_ids) if known else set()
    lost = before - set(listed)
    if lost and (not listed or (len(lost) > 1 and len(lost) * 2 >= len(before))):
        raise EdxProtocolError(
            f"edX lists {len(listed)} catalogs and left out {len(lost)} of the {len(before)} that it listed "
            f"before ({', '.join(map(str, sorted(lost)))}); the known list stays in use"
        )
    left = (set(known.left) if known else set()) | lost
    return CatalogList(tuple(sorted(listed)), at, tuple(sorted(left - set(listed))))
