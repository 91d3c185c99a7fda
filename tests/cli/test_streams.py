"""Pipes, terminals and consoles that cannot show everything."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from tests.builders import make_course, make_run
from tests.cli.conftest import Cli
from tests.cli.terminal import shown_on_terminal

REPOSITORY = Path(__file__).parents[2]
KEY = "course-v1:NUSx+课程+2T2026"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    runs = [
        make_run(key=KEY, end="2999-01-01T00:00:00Z"),
        make_run(key="course-v1:NUSx+A1x+2T2026", end="2999-01-01T00:00:00Z"),
        make_run(key="bad", start="soon"),
    ]
    with Sandbox([Catalog(7, "Cours d'été\x1b[31m", [make_course(*runs, key="NUSx+A1x")])]) as sandbox:
        yield sandbox


@pytest.fixture
def synced(cli: Cli, settings: dict[str, str]) -> dict[str, str]:
    """The settings of a catalog that was synced."""
    assert cli("sync").returncode == 0
    return settings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_command_works_on_a_console_of_any_encoding(
    synced: dict[str, str], tmp_path: Path, encoding: str
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "shared", *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONIOENCODING": encoding,
                **synced,
            },
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout.decode(encoding)

    is_utf8 = encoding == "utf-8"
    shown = "course-v1:NUSx+课程+2T2026" if is_utf8 else "course-v1:NUSx+\\u8bfe\\u7a0b+2T2026"
    assert run("check")[1].startswith("✓ settings" if is_utf8 else "ok settings")
    assert run("runs")[1].splitlines()[2].split("\t")[1] == shown
    assert json.loads(run("runs", "--json")[1])[1]["courserunKey"] == KEY
    assert shown in run("runs", "--csv")[1]
    for arguments in (["history"], ["changes"], ["status"], ["show", KEY], ["sync", "--dry-run"]):
        assert run(*arguments)[0] == 0
        json.loads(run(*arguments, "--json")[1])
    name = {"ascii": "Cours d'\\xe9t\\xe9 [31m"}.get(encoding, "Cours d'été [31m")
    assert run("catalogs")[1].splitlines()[1].split("\t")[1] == name


def test_a_pipe_that_is_closed_early_ends_the_command_quietly(synced: dict[str, str], tmp_path: Path) -> None:
    for command in ("runs", "runs --json", "runs --csv", "check"):
        done = subprocess.run(  # noqa: S602 - a pipe as an operator writes it; nothing of it comes from outside
            f"{sys.executable} -m shared {command} | head -c 1",
            shell=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **synced},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert len(done.stdout) == 1
        assert "Error" not in done.stderr
        assert "Exception" not in done.stderr


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_nothing_is_wider_than_the_terminal_and_no_number_breaks(
    synced: dict[str, str], columns: int
) -> None:
    for command in ("runs", "history", "status", "changes", "catalogs"):
        lines = shown_on_terminal(synced, columns, command)
        assert lines
        assert max(map(len, lines)) <= columns
    history = " ".join(shown_on_terminal(synced, columns, "history"))
    assert "restored" not in history  # nothing but zeros
    runs = shown_on_terminal(synced, columns, "runs")
    assert any("2999-01-01" in line and "150.00" in line and "14-16" in line for line in runs)
    assert runs[-1] == "2 course runs"


def test_reason_stands_below_its_row_on_a_terminal(
    synced: dict[str, str], cli: Cli, sandbox: Sandbox
) -> None:
    sandbox.catalogs[7].replace([])
    cli("sync")
    lines = shown_on_terminal(synced, 100, "history")
    assert lines[1].split()[2:4] == ["7", "operator"]
    assert lines[2].startswith("  edX ")


def test_settings_are_not_needed_for_help() -> None:
    lines = shown_on_terminal({}, 80, "sync", "--help")
    assert any("--dry-run" in line for line in lines)
