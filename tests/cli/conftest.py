"""The command line on a real sandbox and real tables."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

from local.sandbox import Sandbox
from local.sandbox.catalogs import Catalog
from shared.__main__ import main
from shared.cli.parts import connector
from shared.settings import StorageSettings
from shared.storage.tables import Tables, open_tables
from tests.builders import make_course, make_run

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


@pytest.fixture
def tables(storage: StorageSettings) -> Tables:
    """The tables of the commands, by the clock of this machine."""
    return open_tables(storage, "sandbox-client")


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in an empty folder; keyword arguments are settings, an empty one is left out.

    In this process: a command of its own takes longer to start than to run. test_streams.py starts some.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **more_settings: str) -> "subprocess.CompletedProcess[str]":
        ours = {name: value for name, value in {**settings, **more_settings}.items() if value}
        connector.cache_clear()
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with (
            mock.patch.dict(os.environ, ours, clear=True),
            mock.patch.object(sys, "argv", ["shared", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        logging.getLogger("shared").setLevel(logging.NOTSET)
        code = ended.value.code
        return subprocess.CompletedProcess(
            arguments, code if isinstance(code, int) else 0, _text(out), _text(err)
        )

    return run


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
