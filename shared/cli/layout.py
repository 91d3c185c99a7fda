"""Fits a table to a terminal: as a grid, or with the column that names a row on a separate line.

Numbers are not wrapped, columns with only zeros are dropped, and the note of a row is printed below it.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from rich.cells import cell_len
from rich.text import Text

Cell = str | int | float | None
_Value = TypeVar("_Value")

_GAP = "  "
_NOTHING = (0, "", None)
_COLOURS = {"ok": "green", "incomplete": "yellow", "failed": "red", "withdrawn": "red", "late": "red"}


class Row(NamedTuple):
    """A row of a table; the note is printed below it on a terminal, otherwise in the last column."""

    cells: Sequence[Cell]
    note: str = ""


class _Layout(NamedTuple):
    headings: Sequence[Text]
    lines_of: Callable[[Sequence[Cell]], Sequence[Text]]


def text_of(cell: Cell) -> str:
    """Return the text of a cell: "" for None, one decimal for a float."""
    return "" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def table_lines(columns: Sequence[str], rows: Sequence[Row], width: int, title: str) -> Iterator[Text]:
    """Yield the lines of a table for a terminal of `width` characters; column `title` names a row."""
    kept = [at for at in range(len(columns)) if any(row.cells[at] not in _NOTHING for row in rows)]
    if not kept:
        return
    columns = [columns[at] for at in kept]
    name = columns.index(title) if title in columns else 0
    rows = [Row([row.cells[at] for at in kept], row.note) for row in rows]
    layout = (
        _grid(columns, rows, width)
        or _grid_below_title(columns, rows, width, name)
        or _values_below_title(columns, name, width)
    )
    for heading in layout.headings:
        heading.stylize("bold")
        yield heading
    for row in rows:
        yield from layout.lines_of(row.cells)
        below = textwrap.wrap(row.note, width - len(_GAP), break_long_words=False, break_on_hyphens=False)
        yield from (Text(f"{_GAP}{line}") for line in below)


def _grid(columns: Sequence[str], rows: Sequence[Row], width: int) -> _Layout | None:
    widths = _widths(columns, rows)
    if sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        return None
    numbers = [
        all(isinstance(row.cells[at], (int, float, type(None))) for row in rows) for at in _places(columns)
    ]

    def line(cells: Sequence[Cell]) -> Text:
        parts = []
        for at, cell in enumerate(cells):
            space = " " * (widths[at] - cell_len(text_of(cell)))
            parts.append(Text(space) + _coloured(cell) if numbers[at] else _coloured(cell) + space)
        joined = Text(_GAP).join(parts)
        joined.rstrip()
        return joined

    return _Layout([line(columns)], lambda cells: [line(cells)])


def _grid_below_title(columns: Sequence[str], rows: Sequence[Row], width: int, title: int) -> _Layout | None:
    rest = [Row(_without(row.cells, title)) for row in rows]
    grid = _grid(_without(columns, title), rest, width - len(_GAP)) if len(columns) > 1 else None
    if grid is None:
        return None
    return _Layout(
        [Text(columns[title]), *(Text(_GAP) + heading for heading in grid.headings)],
        lambda cells: [
            _coloured(cells[title]),
            *(Text(_GAP) + line for line in grid.lines_of(_without(cells, title))),
        ],
    )


def _values_below_title(columns: Sequence[str], title: int, width: int) -> _Layout:
    def lines_of(cells: Sequence[Cell]) -> list[Text]:
        lines = [_coloured(cells[title])]
        line = Text()
        for at in _places(columns):
            if at == title or cells[at] in _NOTHING:
                continue
            item = Text.assemble((f"{columns[at]} ", "dim"), _coloured(cells[at]))
            if line and line.cell_len + len(_GAP) + item.cell_len > width:
                lines.append(line)
                line = Text()
            line += Text(_GAP) + item
        return [*lines, line] if line else lines

    return _Layout([], lines_of)


def _widths(columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    return [
        max(cell_len(columns[at]), *(cell_len(text_of(row.cells[at])) for row in rows))
        for at in _places(columns)
    ]


def _places(columns: Sequence[str]) -> range:
    return range(len(columns))


def _without(values: Sequence[_Value], place: int) -> list[_Value]:
    return [*values[:place], *values[place + 1 :]]


def _coloured(cell: Cell) -> Text:
    text = text_of(cell)
    return Text(text, _COLOURS.get(text.partition(" ")[0], ""))
