"""The command line in its own process, as an operator runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]


def run_command_line(
    settings: Mapping[str, str], *arguments: str, folder: Path = _REPOSITORY
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m shared` in a folder, with only these settings."""
    return subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-m", "shared", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_REPOSITORY), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
