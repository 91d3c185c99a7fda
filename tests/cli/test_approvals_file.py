"""Files of approvals: what is read from a line, and why a line or a file is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.cli.approvals_file import problem_of, read_approvals
from shared.domain.credits import Approval

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
APPROVAL = Approval("A+1", 2, "", "ann", NOW)


def read(folder: Path, text: str | bytes) -> tuple[list[Approval], list[str]]:
    file = folder / "approvals.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_approvals(file, "ann", NOW)


def test_who_and_when_are_those_of_the_import_when_a_line_does_not_say(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff Key , CREDIT\r\n A+1 , 2 \r\n") == ([APPROVAL], [])
    assert read(tmp_path, "key,credit,note,by,at\nA+1,2,Senate,bob,2026-02-03T04:05:06+08:00\n") == (
        [Approval("A+1", 2, "Senate", "bob", datetime(2026, 2, 2, 20, 5, 6, tzinfo=UTC))],
        [],
    )


def test_time_without_an_offset_is_utc(tmp_path: Path) -> None:
    (approval,), problems = read(tmp_path, "key,credit,at\nA+1,2,2026-02-03T04:05:06\n")
    assert (approval.at, problems) == (datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), [])


@pytest.mark.parametrize(
    ("cell", "key"),
    [("'=A", "=A"), ("'+1", "+1"), ("'-1", "-1"), ("'@A", "@A"), ("'A", "'A"), ("'", "'"), ("=A", "=A")],
)
def test_apostrophe_is_removed_when_it_hides_a_formula(tmp_path: Path, cell: str, key: str) -> None:
    (approval,), problems = read(tmp_path, f"key,credit\n{cell},2\n")
    assert (approval.key, problems) == (key, [])


@pytest.mark.parametrize("credit", ["0", "2147483647"])
def test_credit_is_any_number_that_storage_can_hold(tmp_path: Path, credit: str) -> None:
    (approval,), problems = read(tmp_path, f"key,credit\nA,{credit}\n")
    assert (approval.credit, problems) == (int(credit), [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("A,2147483648,,", "the credit of A is larger than 2147483647"),
        ("A,99999999999,,", "the credit of A is '99999999999': expected a whole number of 0 or more"),
        ("A,,,", "the credit of A is '': expected a whole number of 0 or more"),
        ("A,\u0663,,", "the credit of A is '\u0663': expected a whole number of 0 or more"),
        ("A,-1,,", "the credit of A is '-1': expected a whole number of 0 or more"),
        (
            "A,1,,soon",
            "the time of A is 'soon': expected one such as 2026-03-01T12:00:00Z",
        ),
        (f"{'k' * 256},1,,", "the key is longer than 255 characters"),
        ("a\u200bb,1,,", "the key contains control characters"),
    ],
)
def test_line_is_refused_with_its_number_when_a_value_is_wrong(
    tmp_path: Path, line: str, problem: str
) -> None:
    assert read(tmp_path, f"key,credit,note,at\nB,1,,\n{line}\n")[1] == [f"Line 3: {problem}"]


def test_texts_are_limited(tmp_path: Path) -> None:
    longest = APPROVAL._replace(key="k" * 255, note="n" * 1000, by="b" * 1000)
    assert problem_of(longest) is None
    assert problem_of(APPROVAL._replace(note="n" * 1001)) == "a text of A+1 is longer than 1000 characters"
    assert problem_of(APPROVAL._replace(by="b" * 1001)) == "a text of A+1 is longer than 1000 characters"
    assert read(tmp_path, f"key,credit\n{'k' * 255},1\n")[1] == []


def test_note_keeps_its_line_breaks_and_missing_values_are_empty(tmp_path: Path) -> None:
    (approval, short), problems = read(tmp_path, 'key,credit,note,by\nB,1,"a\r\nb",bob\nA+1,2\n')
    assert (approval.note, short, problems) == ("a\r\nb", APPROVAL, [])


@pytest.mark.parametrize(
    ("code", "is_text"), [(0xD7FF, True), (0xD800, False), (0xDFFF, False), (0xE000, True)]
)
def test_texts_are_refused_when_they_have_bytes_that_are_not_utf8(code: int, *, is_text: bool) -> None:
    problem = None if is_text else "a text of 'A+1' has bytes that are not UTF-8"
    assert problem_of(APPROVAL._replace(note=chr(code))) == problem
    assert problem_of(APPROVAL._replace(by=chr(code))) == problem


@pytest.mark.parametrize("key", ["", " A", "A "])
def test_key_has_no_white_space_around_it(key: str) -> None:
    assert problem_of(APPROVAL._replace(key=key)) == "the key is empty, or has white space around it"


HEADING = "Line 1: expected column names separated by commas: key, credit and, optionally, note, by, at"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", HEADING),
        ("key\nA\n", HEADING),
        ("key,credit,colour\nA,1,red\n", HEADING),
        ("key;credit\nA;1\n", HEADING),
        (b"key,credit\n\xe9,1\n", "The file is not UTF-8 text: save it as CSV UTF-8"),
        ('key,credit\nA,"1"2\n', "Line 2: not valid CSV (',' expected after '\"')"),
    ],
)
def test_file_is_refused_when_it_is_no_table_of_approvals(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    assert read(tmp_path, text) == ([], [problem])


def test_lines_without_values_are_skipped(tmp_path: Path) -> None:
    approvals, problems = read(tmp_path, "key,credit\n,\nA,1\n\n,\nB,2\n")
    assert ([(each.key, each.credit) for each in approvals], problems) == ([("A", 1), ("B", 2)], [])
