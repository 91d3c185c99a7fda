"""The command line on a real sandbox and real tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from shared.settings import StorageSettings
from shared.storage.tables import Tables, open_tables
from tests.builders import make_course, make_run
from tests.cli.running import Cli, run_here

ODD_KEY = "NUSx/[red]A1x[/]/1"  # a console could read this as markup


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


@pytest.fixture
def tables(storage: StorageSettings) -> Tables:
    """The tables of the commands, by the clock of this machine."""
    return open_tables(storage, "sandbox-client")


@pytest.fixture
def cli(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in an empty folder; keyword arguments are settings, an empty one is left out."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **more_settings: run_here({**settings, **more_settings}, *arguments)
