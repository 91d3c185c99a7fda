"""The format of edX catalog ids: `[1-9][0-9]*`, at most a 32-bit integer."""

import re

CATALOG_ID_MAX = 2**31 - 1
"""The largest id that the edX server can assign (a 32-bit integer); no catalog has a larger id."""

_GRAMMAR = re.compile("[1-9][0-9]*", re.ASCII)
_DIGITS_MAX = 10  # of CATALOG_ID_MAX; int() raises ValueError for numbers of more than 4,300 digits


def parse_catalog_id(text: str) -> int | None:
    """Parse a catalog id; return None when the text is malformed.

    A number with more digits than `CATALOG_ID_MAX` is returned as `CATALOG_ID_MAX + 1`, which no catalog has.
    """
    if not _GRAMMAR.fullmatch(text):
        return None
    return int(text) if len(text) <= _DIGITS_MAX else CATALOG_ID_MAX + 1
