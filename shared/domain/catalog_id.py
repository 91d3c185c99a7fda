"""The one grammar of edX catalog ids: `[1-9][0-9]*`, and no larger than edX's own integers."""

import re

CATALOG_ID_MAX = 2**31 - 1
"""The largest id that the edX server can give (a 32-bit integer); a larger number names no catalog."""

_GRAMMAR = re.compile("[1-9][0-9]*", re.ASCII)
_DIGITS_MAX = 10  # of CATALOG_ID_MAX; Python refuses to read numbers of thousands of digits


def parse_catalog_id(text: str) -> int | None:
    """Return the id that a text names; None when it is malformed.

    A well-formed number above `CATALOG_ID_MAX` comes back as some number above it: it names no catalog.
    """
    if not _GRAMMAR.fullmatch(text):
        return None
    return int(text) if len(text) <= _DIGITS_MAX else CATALOG_ID_MAX + 1
