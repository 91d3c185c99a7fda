"""What programs read from the command line, and the words for people around it."""

from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper

import pytest

from shared.cli.console import counted, mark, print_csv, print_json


def test_json_is_indented_by_two_spaces_and_has_letters_of_any_script(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json([{"title": "é课程"}])
    assert capsys.readouterr().out == '[\n  {\n    "title": "é课程"\n  }\n]\n'


def test_json_has_letters_escaped_when_the_console_cannot_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    out = TextIOWrapper(BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr("sys.stdout", out)
    print_json([{"title": "é课程", "at": datetime(2026, 3, 1, 12, tzinfo=UTC)}])
    out.seek(0)
    assert out.read() == (
        '[\n  {\n    "title": "\\u00e9\\u8bfe\\u7a0b",\n    "at": "2026-03-01T12:00:00+00:00"\n  }\n]\n'
    )


def test_csv_hides_what_a_spreadsheet_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(["a", "b"], [["=1", "+1"], ["-1", "@x"], ["a,b", 'say "x"'], [-1, None]])
    assert capsys.readouterr().out.splitlines() == ["a,b", "'=1,'+1", "'-1,'@x", '"a,b","say ""x"""', "-1,"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (-1, "-1 entries")]
)
def test_noun_is_singular_only_after_one(number: int, text: str) -> None:
    assert counted(number, "entry", "entries") == text
    assert counted(number, "run") == text.replace("entry", "run").replace("entries", "runs")


def test_part_that_was_not_tried_is_neither_good_nor_bad() -> None:
    assert [mark(is_good=True), mark(is_good=False), mark(is_good=None)] == ["✓", "✗", "-"]
