"""A terminal of a chosen width for a command."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


def shown_on_terminal(settings: Mapping[str, str], columns: int, *arguments: str) -> list[str]:
    """Run `python -m shared` on a terminal without colours, and return the lines that it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603 - the command is ours
        [sys.executable, "-m", "shared", *arguments],
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_REPOSITORY),
            "TERM": "xterm",
            "NO_COLOR": "1",
            **settings,
        },
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65_536):
            shown += data
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait(60)
    return [_plain(line) for line in shown.decode().split("\r\n")][:-1]


def _plain(line: str) -> str:
    """Remove the bold and dim of headings, which NO_COLOR leaves."""
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m"):
        line = line.replace(code, "")
    return line
