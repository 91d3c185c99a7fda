"""Pipes, terminals and consoles that cannot show everything."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from shared.domain.credits import Approval
from shared.storage.tables import Tables
from tests.builders import make_course, make_run
from tests.cli.running import Cli, run_here
from tests.cli.terminal import shown_on_terminal

REPOSITORY = Path(__file__).parents[2]
KEY = "course-v1:NUSx+课程+2T2026"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    runs = [
        make_run(key=KEY, end="3000-01-01T00:00:00Z"),
        make_run(key="course-v1:NUSx+A1x+2T2026", end="3000-01-01T00:00:00Z"),
        make_run(key="bad", start="soon"),
    ]
    with Sandbox([Catalog(7, "Cours d'été", [make_course(*runs, key="NUSx+A1x")])]) as sandbox:
        yield sandbox


@pytest.fixture
def synced(cli: Cli, settings: dict[str, str]) -> dict[str, str]:
    """The settings of a catalog that was synced."""
    assert cli("sync").returncode == 0
    return settings


def lines(settings: dict[str, str], columns: int, *arguments: str) -> list[str]:
    """Return the output on a terminal without bold and dim."""
    shown = run_here(settings, *arguments, columns=columns).stdout
    return re.sub("\x1b\\[[0-9]*m", "", shown).splitlines()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_command_works_on_a_console_of_any_encoding(synced: dict[str, str], encoding: str) -> None:
    def run(*arguments: str) -> str:
        done = run_here(synced, *arguments, encoding=encoding)
        assert done.returncode == 0
        return done.stdout

    is_utf8 = encoding == "utf-8"
    shown = KEY if is_utf8 else "course-v1:NUSx+\\u8bfe\\u7a0b+2T2026"
    assert run("check").startswith("✓ settings" if is_utf8 else "ok settings")
    assert run("runs").splitlines()[2].split("\t")[1] == shown
    assert json.loads(run("runs", "--json"))[1]["courserunKey"] == KEY
    assert shown in run("runs", "--csv")
    for arguments in (["history"], ["changes"], ["status"], ["show", KEY], ["sync", "--dry-run"]):
        assert run(*arguments)
        json.loads(run(*arguments, "--json"))
    name = "Cours d'\\xe9t\\xe9" if encoding == "ascii" else "Cours d'été"
    assert run("catalogs").splitlines()[1].split("\t")[1] == name


def test_marks_are_words_when_the_console_is_ascii(synced: dict[str, str], sandbox: Sandbox) -> None:
    wrong = run_here({**synced, "EDX_CLIENT_SECRET": "wrong"}, "check", encoding="ascii")
    marks = [line.partition(" ")[0] for line in wrong.stdout.splitlines()]
    assert marks == ["ok", "ok", "ok", "ok", "FAILED", "-", "ok"]
    sandbox.catalogs[7].alter_run(KEY, end="2999-01-01T00:00:00Z")
    previewed = run_here(synced, "sync", "--dry-run", encoding="ascii").stdout.splitlines()
    assert "  endDate: 3000-01-01T00:00:00Z -> 2999-01-01T00:00:00Z" in previewed


def test_characters_are_replaced_by_spaces_when_they_move_the_cursor(cli: Cli) -> None:
    cli("credits", "set", KEY, "2", "--note", "a\x1b[31m\nb\u202ec")
    assert cli("credits", "list").stdout.splitlines()[1].split("\t")[2] == "a [31m b c"


def start(settings: dict[str, str], command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(  # noqa: S602 - as an operator writes it; nothing of it comes from outside
        command.replace("PROGRAM", f"{sys.executable} -m shared"),
        shell=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **settings},
        capture_output=True,
        check=False,
        timeout=120,
    )


def test_a_command_works_when_the_console_is_ascii(synced: dict[str, str]) -> None:
    done = start({"PYTHONIOENCODING": "ascii", **synced}, "PROGRAM runs")
    assert (done.returncode, done.stderr) == (0, b"2 course runs\n")
    assert b"course-v1:NUSx+\\u8bfe\\u7a0b+2T2026" in done.stdout


@pytest.mark.parametrize("command", ["runs", "runs --json", "runs --csv"])
def test_a_command_ends_without_an_error_when_its_pipe_is_closed_early(
    synced: dict[str, str], command: str
) -> None:
    # `true` has closed the pipe before the first line is written.
    done = start(synced, f"PROGRAM {command} | true")
    assert (done.stdout, done.stderr.replace(b"2 course runs\n", b"")) == (b"", b"")


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_wrapped(
    synced: dict[str, str], columns: int
) -> None:
    for command in ("runs", "history", "status", "changes", "catalogs", "check"):
        shown = lines(synced, columns, command)
        assert shown
        assert max(map(len, shown)) <= columns
    history = " ".join(lines(synced, columns, "history"))
    assert "restored" not in history  # nothing but zeros
    runs = lines(synced, columns, "runs")
    for value in ("2026-01-12", "3000-01-01", "150.00", "14-16"):
        assert sum(value in line for line in runs) == 2
    assert runs[-1] == "2 course runs"


def test_reason_is_printed_below_its_row_when_the_output_is_a_terminal(
    synced: dict[str, str], cli: Cli, sandbox: Sandbox
) -> None:
    sandbox.catalogs[7].replace([])
    cli("sync")
    shown = lines(synced, 100, "history")
    assert shown[1].split()[2:4] == ["7", "operator"]
    assert shown[2].startswith("  edX ")


def test_table_is_shown_on_a_real_terminal(synced: dict[str, str]) -> None:
    shown = shown_on_terminal(synced, 80, "catalogs")
    assert [line.split() for line in shown[:2]] == [
        ["id", "name", "courses"],
        ["7", "Cours", "d'été", "8"],
    ]


RED, YELLOW, BOLD, DIM, GREEN, PLAIN = (f"\x1b[{code}m" for code in (31, 33, 1, 2, 32, 0))


def test_problems_are_red_and_warnings_yellow_on_a_terminal_with_colours(
    settings: dict[str, str], tables: Tables, tmp_path: Path
) -> None:
    def errors(*arguments: str, **more_settings: str) -> list[str]:
        done = run_here({**settings, **more_settings}, *arguments, columns=200, colours=True)
        return done.stderr.rpartition("\x1b[2K")[2].splitlines()  # without the progress bar

    problem = "Error: no credit is approved for 7"
    assert errors("credits", "remove", "7") == [f"{RED}{problem}{PLAIN}"]
    problem = "Error: None of our catalogs has a course run with the key 7"
    assert errors("show", "7") == [f"{RED}{problem}{PLAIN}"]
    (failed,) = errors("sync", "--catalog", "999")
    assert failed.startswith(f"{RED}Catalog 999 failed: ")
    file = tmp_path / "credits.csv"
    file.write_text("key,credit\nA,many\n")
    problem = "Line 2: the credit of A is 'many': expected a whole number of 0 or more"
    assert errors("credits", "import", str(file)) == [
        f"{RED}{problem}{PLAIN}",
        f"Error: 1 problem in {file}; nothing was stored",
    ]

    warning = "Warning: EDX_LANGUAGE is not a setting"
    assert errors("runs", EDX_LANGUAGE="en") == [f"{YELLOW}{warning}{PLAIN}"]
    approved = [Approval(f"K{number}", 1, "", "", datetime.now(UTC)) for number in range(10, 22)]
    tables.credits.set(approved)
    file.write_text(run_here(settings, "credits", "list", "--csv").stdout)
    warnings = [f"no catalog has a run or a course with the key K{number} yet" for number in range(10, 20)]
    assert errors("credits", "import", str(file)) == [
        *(f"{YELLOW}Warning: {warning}{PLAIN}" for warning in warnings),
        f"{YELLOW}Warning: 2 other keys are in no catalog yet{PLAIN}",
    ]


def test_headings_are_bold_notes_are_dim_and_states_have_colours_on_a_terminal(
    synced: dict[str, str],
) -> None:
    def shown(*arguments: str) -> list[str]:
        return run_here(synced, *arguments, columns=200, colours=True).stdout.splitlines()

    heading, row, note = shown("catalogs")
    assert heading == f"{BOLD}id  name         courses{PLAIN}"
    assert row == "7   Cours d'été  8"  # no number has a colour
    assert note == f"{DIM}courses: as edX counts them, archived ones too{PLAIN}"
    assert f"  {GREEN}ok " in shown("status")[1]
    first, *rest = shown("show", KEY)
    assert first == f"{BOLD}{KEY} in catalog 7{PLAIN}"
    assert not any("\x1b" in line for line in rest)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_courses_are_counted_on_a_terminal_while_a_sync_or_a_preview_runs(
    settings: dict[str, str], options: tuple[str, ...]
) -> None:
    bar = run_here(settings, "sync", *options, columns=200, colours=True).stderr
    plain = re.sub("\x1b\\[[0-9]*m", "", bar)
    assert re.search("Catalog 7 ━+ 0/[?] courses 0:00:", plain)
    assert re.search("Catalog 7 ━+ 1/1 courses 0:00:", plain)
    assert bar.endswith("\x1b[2K")  # the bar is removed
