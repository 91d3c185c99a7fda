"""The command line as an operator runs it: a process of its own, a real sandbox, real tables."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from tests.builders import make_course, make_run
from tests.command_line import run_command_line

ODD_KEY = "NUSx/[red]A1x[/]/1"  # could be taken for markup


@pytest.fixture
def catalog() -> Catalog:
    runs = [
        make_run(key=ODD_KEY),
        make_run(key="course-v1:NUSx+A1x+old", end="2001-01-01T00:00:00Z"),
        make_run(key="course-v1:NUSx+A1x+hidden", status="unpublished"),
        make_run(key="course-v1:NUSx+A1x+bad", start="soon"),
    ]
    return Catalog(7, "[bold]Ours", [make_course(*runs, key="NUSx+A1x"), make_course(key="NUSx+A2x")])


@pytest.fixture
def sandbox(catalog: Catalog) -> Iterator[Sandbox]:
    with Sandbox([catalog, Catalog(8, "Empty", archived=0)]) as sandbox:
        yield sandbox


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(settings: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command in an empty folder; keyword arguments are settings, an empty one is left out."""

    def run(*arguments: str, **more_settings: str) -> "subprocess.CompletedProcess[str]":
        given = {"PYTHONWARNINGS": "error", **settings, **more_settings}
        return run_command_line(
            {name: value for name, value in given.items() if value}, *arguments, folder=tmp_path
        )

    return run
