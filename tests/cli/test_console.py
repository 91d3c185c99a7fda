"""What programs read from the command line, and the words for people around it."""

import re
from datetime import UTC, datetime
from io import BytesIO, StringIO, TextIOWrapper

import pytest

from shared.cli.console import counted, mark, print_csv, print_json, progress_bar


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


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress_bar("Catalog 7", "courses") as bar:
        bar.say("began")  # the bar is drawn again below each line
        bar.move(3, 5)
        bar.say("waiting\nfor process 7" + " and another" * 10)
    shown = terminal.getvalue()
    assert f"waiting for process 7{' and another' * 10}\n" in shown  # neither wrapped nor coloured
    assert re.search("began\n.*Catalog 7 .*0/[?].* courses.*Catalog 7 .*3/5.* courses", shown, re.DOTALL)
    assert shown.endswith("\x1b[2K")  # the line is erased
