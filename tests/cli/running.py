"""Runs commands in this process, because starting a process takes longer than the command."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import pytest

from shared.__main__ import main
from shared.cli.parts import connector

Ran = subprocess.CompletedProcess[str]
Cli = Callable[..., Ran]


class _Stream(io.TextIOWrapper):
    """Standard output: a pipe, or a terminal."""

    def __init__(self, encoding: str, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding, write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        self.seek(0)
        return self.read()


def run_here(
    settings: Mapping[str, str],
    *arguments: str,
    encoding: str = "utf-8",
    columns: int | None = None,
    colours: bool = False,
) -> Ran:
    """Run `python -m shared`.

    Args:
        settings: the environment; empty ones are left out.
        arguments: of the command.
        encoding: of the console.
        columns: the width of the terminal; None for a pipe.
        colours: whether the terminal has colours and also shows standard error.
    """
    environment = {name: value for name, value in settings.items() if value}
    if columns:
        environment |= {"COLUMNS": str(columns), "TERM": "xterm"} | ({} if colours else {"NO_COLOR": "1"})
    out = _Stream(encoding, is_terminal=columns is not None)
    err = _Stream(encoding, is_terminal=colours)
    connector.cache_clear()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["shared", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    code = ended.value.code
    return subprocess.CompletedProcess(
        arguments, code if isinstance(code, int) else 0, out.text(), err.text()
    )
