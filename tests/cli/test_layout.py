"""How tables fit terminals of 60, 80 and 140 columns."""

import pytest

from shared.cli.layout import Row, table_lines

COLUMNS = ("catalog", "courserunKey", "state", "new", "rejected", "price")
ROWS = (
    Row([1, "course-v1:MITx+6.00.1x+2T2026", "Current", 1234567, 0, "150.00"], "why this row is special"),
    Row([22, "course-v1:DelftX+CTB3300WCx+2T2014", "withdrawn 2026-03-01", 5, 0, ""]),
)


def lines(width: int) -> list[str]:
    return [line.plain for line in table_lines(COLUMNS, ROWS, width, "courserunKey")]


def test_table_is_a_grid_without_columns_of_zeros_when_it_fits() -> None:
    assert lines(140) == [
        "catalog  courserunKey                        state                     new  price",
        "      1  course-v1:MITx+6.00.1x+2T2026       Current               1234567  150.00",
        "  why this row is special",
        "     22  course-v1:DelftX+CTB3300WCx+2T2014  withdrawn 2026-03-01        5",
    ]


def test_column_that_names_the_row_is_on_its_own_line_when_the_grid_does_not_fit() -> None:
    assert lines(60) == [
        "courserunKey",
        "  catalog  state                     new  price",
        "course-v1:MITx+6.00.1x+2T2026",
        "        1  Current               1234567  150.00",
        "  why this row is special",
        "course-v1:DelftX+CTB3300WCx+2T2014",
        "       22  withdrawn 2026-03-01        5",
    ]


def test_values_are_listed_with_their_names_when_no_grid_fits() -> None:
    assert lines(40) == [
        "course-v1:MITx+6.00.1x+2T2026",
        "  catalog 1  state Current  new 1234567",
        "  price 150.00",
        "  why this row is special",
        "course-v1:DelftX+CTB3300WCx+2T2014",
        "  catalog 22  state withdrawn 2026-03-01",
        "  new 5",
    ]


def test_a_layout_is_used_up_to_the_width_that_it_needs() -> None:
    first_lines = {width: lines(width)[0].split()[0] for width in (82, 81, 48, 47)}
    assert first_lines == {
        82: "catalog",
        81: "courserunKey",
        48: "courserunKey",
        47: "course-v1:MITx+6.00.1x+2T2026",
    }


@pytest.mark.parametrize("width", range(34, 90))
def test_no_line_is_longer_than_the_terminal_when_every_word_fits(width: int) -> None:
    assert max(map(len, lines(width))) <= width


def test_note_is_folded_between_words_when_it_is_longer_than_the_terminal() -> None:
    rows = [Row(["a"], "edX no longer shows 11 of 12 open runs, more than the 20 % that is allowed")]
    assert [line.plain for line in table_lines(["key"], rows, 40, "key")] == [
        "key",
        "a",
        "  edX no longer shows 11 of 12 open",
        "  runs, more than the 20 % that is",
        "  allowed",
    ]


def test_key_in_a_note_is_not_folded_when_it_is_longer_than_the_terminal() -> None:
    rows = [Row(["a"], "see course-v1:NUSx+Intro-Water+2T2026")]
    assert [line.plain for line in table_lines(["key"], rows, 30, "key")] == [
        "key",
        "a",
        "  see",
        "  course-v1:NUSx+Intro-Water+2T2026",
    ]


def test_state_has_a_colour_when_it_is_good_or_bad() -> None:
    rows = [Row(["a", state]) for state in ("ok", "withdrawn 2026-03-01", "Current")]
    shown = [
        (line.plain[span.start : span.end], span.style)
        for line in list(table_lines(["key", "state"], rows, 80, "key"))[1:]
        for span in line.spans
        if span.style
    ]
    assert shown == [("ok", "green"), ("withdrawn 2026-03-01", "red")]


def test_only_column_has_no_heading_when_it_is_wider_than_the_terminal() -> None:
    rows = [Row(["course-v1:A"]), Row(["course-v1:B"])]
    assert [line.plain for line in table_lines(["key"], rows, 10, "key")] == ["course-v1:A", "course-v1:B"]


def test_long_value_is_on_the_line_below_the_key_when_it_is_wider_than_the_terminal() -> None:
    rows = [Row(["key", "x" * 30, "y"])]
    assert [line.plain for line in table_lines(["key", "note", "by"], rows, 20, "key")] == [
        "key",
        f"  note {'x' * 30}",
        "  by y",
    ]


def test_headings_are_bold_and_names_of_values_are_dim() -> None:
    def styles(width: int) -> list[tuple[str, str]]:
        return [
            (line.plain[span.start : span.end], str(span.style))
            for line in table_lines(["key", "note"], [Row(["k", "long note"])], width, "key")
            for span in line.spans
            if span.style
        ]

    assert styles(80) == [("key  note", "bold")]
    assert styles(12) == [("key", "bold"), ("  note", "bold")]
    assert styles(10) == [("note ", "dim")]


def test_first_column_names_the_rows_when_no_column_is_chosen() -> None:
    rows = [Row(["first", "other"])]
    assert [line.plain for line in table_lines(["a", "b"], rows, 8, "")] == ["a", "  b", "first", "  other"]


def test_nothing_is_printed_when_there_are_no_rows() -> None:
    assert list(table_lines(COLUMNS, [], 80, "")) == []


def test_wide_characters_take_two_columns() -> None:
    rows = [Row(["课程", 1]), Row(["course", 22])]
    assert [line.plain for line in table_lines(["name", "id"], rows, 80, "name")] == [
        "name    id",
        "课程     1",
        "course  22",
    ]
