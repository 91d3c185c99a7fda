"""Reads approved credits from a CSV file; refuses a file with errors, with one message per wrong line."""

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from shared.cli.console import FORMULA_STARTS
from shared.domain.course_run import INT32_MAX, RUN_KEY_MAX
from shared.domain.credits import Approval

_REQUIRED = {"key", "credit"}
_KNOWN = {*_REQUIRED, "note", "by", "at"}
_TEXT_MAX = 1_000
_HEADING = "column names separated by commas: key, credit and, optionally, note, by, at"


def problem_of(approval: Approval) -> str | None:
    """Return why an approval cannot be stored, as a clause; None when it can."""
    key = approval.key
    if not key or key != key.strip():
        return "the key is empty, or has white space around it"
    if len(key) > RUN_KEY_MAX:
        return f"the key is longer than {RUN_KEY_MAX} characters"
    if not key.isprintable():
        return "the key contains control characters"
    if not _is_unicode(approval.note + approval.by):
        return f"a text of {key!r} has bytes that are not UTF-8"
    if max(len(approval.note), len(approval.by)) > _TEXT_MAX:
        return f"a text of {key} is longer than {_TEXT_MAX} characters"
    return None


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be stored: in arguments of a command, surrogates replace other bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def read_approvals(file: Path, by: str, at: datetime) -> tuple[list[Approval], list[str]]:
    """Read a file.

    Args:
        file: CSV with a line of column names: key and credit, optionally note, by and at.
        by: who approved the lines without a `by`.
        at: when the lines without an `at` were approved.

    Returns:
        The approvals, and one sentence for each wrong line.
    """
    approvals: list[Approval] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            columns = {str(name).strip().lower() for name in reader.fieldnames or ()}
            if not _REQUIRED <= columns <= _KNOWN:
                return [], [f"Line 1: expected {_HEADING}"]
            for row in reader:
                line = reader.line_num
                values = {str(name).strip().lower(): value for name, value in row.items()}
                if not any(values.values()):
                    continue
                read = _approval(values, by, at)
                if isinstance(read, str):
                    problems.append(f"Line {line}: {read}")
                elif read.key in seen:
                    problems.append(f"Line {line}: {read.key} is already in line {seen[read.key]}")
                else:
                    seen[read.key] = line
                    approvals.append(read)
    except UnicodeDecodeError:
        problems.append("The file is not UTF-8 text: save it as CSV UTF-8")
    except csv.Error as error:
        # Not that of DictReader: it is the number of the last line that could be read.
        problems.append(f"Line {reader.reader.line_num}: not valid CSV ({error})")
    return approvals, problems


def _approval(values: Mapping[str, object], by: str, at: datetime) -> Approval | str:
    """Read a line; return a clause that says what is wrong when it cannot be used."""
    if any(isinstance(value, list) for value in values.values()):
        return "it has more values than there are columns; put a text with a comma in quotation marks"
    text = {name: _plain(value) for name, value in values.items()}
    key, credit = text["key"], text["credit"]
    if not key:
        return "the key is empty"
    if not (credit.isascii() and credit.isdecimal() and len(credit) <= len(str(INT32_MAX))):
        return f"the credit of {key} is {credit!r}: expected a whole number of 0 or more"
    if int(credit) > INT32_MAX:
        return f"the credit of {key} is larger than {INT32_MAX}"
    try:
        said = datetime.fromisoformat(text["at"]) if text.get("at") else at
    except ValueError:
        return f"the time of {key} is {text['at']!r}: expected one such as 2026-03-01T12:00:00Z"
    moment = said.astimezone(UTC) if said.tzinfo else said.replace(tzinfo=UTC)
    approval = Approval(key, int(credit), text.get("note", ""), text.get("by") or by, moment)
    return problem_of(approval) or approval


def _plain(value: object) -> str:
    """Return a value without surrounding white space and without the leading apostrophe of our own CSV."""
    text = str(value or "").strip()
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULA_STARTS else text
