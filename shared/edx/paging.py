"""Pagination of edX's lists: cursors, the meaning of `next` and `count`, and the plan of pages to request."""

from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.parse import parse_qs

from shared.edx.values import read_whole_number
from shared.errors import EdxProtocolError

_STYLES: tuple[tuple[Literal["offset", "page"], str], ...] = (("offset", "limit"), ("page", "page_size"))


class Cursor(NamedTuple):
    """A place in a paginated list; `position` is an offset or a page number.

    `size` is the number of items to ask for; 0 leaves it to the server.
    """

    style: Literal["offset", "page"]
    position: int
    size: int

    @property
    def query(self) -> dict[str, str]:
        """The query parameters for the page at this place."""
        size = {dict(_STYLES)[self.style]: str(self.size)} if self.size else {}
        return {**size, self.style: str(self.position)}


def next_cursor(link: object, after: Cursor) -> Cursor | None:
    """Return the cursor in a page's `next`; its scheme, host and path are ignored.

    Returns:
        None at the end of the list (`next` is null or "").

    Raises:
        EdxProtocolError: `next` contains no usable cursor, or one that does not advance.
    """
    if link is None or link == "":
        return None
    if not isinstance(link, str):
        raise EdxProtocolError("edX sent a `next` that is no text")
    query = parse_qs(link.partition("?")[2].partition("#")[0], keep_blank_values=True)
    for style, size_name in _STYLES:
        if style in query:
            position = _whole_number(query[style])
            sizes = query.get(size_name, [])
            size = _whole_number(sizes) or 0
            if position is None or (sizes and not size):
                break
            # The first request is by offset, even if the server then continues with page numbers.
            begun = 1 if style == "page" and after.position == 0 else after.position
            if (style != after.style and after.position != 0) or position <= begun:
                raise EdxProtocolError(f"edX sent a `next` that does not advance (from {style} {begun})")
            return Cursor(style, position, size)
    raise EdxProtocolError("edX sent a `next` without a usable cursor")


def usable_count(count: object) -> int | None:
    """Return `count` if it is a whole number of 0 or more; otherwise None."""
    return count if type(count) is int and count >= 0 else None


class Grid:
    """The page boundaries of a list with offsets; each page overlaps the next one by one course.

    Args:
        page_size: courses between the beginnings of two pages; a request asks for one more.
    """

    def __init__(self, page_size: int) -> None:
        self.stride = page_size

    def page_at(self, position: int) -> Cursor:
        """Return the page at a position; it ends with the first course of the next page of the grid."""
        return Cursor("offset", position, self.stride - position % self.stride + 1)

    def fit(self, asked: Cursor, came: int) -> None:
        """Reduce the page size to the server's, when it returns fewer courses than requested."""
        if 0 < came < asked.size:
            self.stride = max(came - 1, 1)

    def up_to(self, count: int) -> Iterator[Cursor]:
        """Plan the pages after the first one for a total of `count` courses."""
        return (self.page_at(position) for position in range(self.stride, count - 1, self.stride))


def numbered_pages(following: Cursor, count: int, first_page_length: int) -> Iterator[Cursor]:
    """Plan the pages from `following` on, for a server with page numbers."""
    size = max(following.size, first_page_length, 1)  # too few pages rather than one past the end
    return (following._replace(position=n) for n in range(following.position, -(-count // size) + 1))


def _whole_number(values: list[str]) -> int | None:
    return read_whole_number(values[0]) if len(values) == 1 else None
