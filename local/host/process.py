"""Runs the replacement host in its own process, which shares nothing with the process that starts it."""

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from local.child import Child

_REPOSITORY = Path(__file__).parents[2]
_START_TIMEOUT_S = 60


class FunctionFailed(Exception):
    """A timer function raised; the message is what the host logged about it."""


class HostProcess:
    """`python -m local.host` as a child process; a context manager that stops it at the end.

    Args:
        settings: all settings of the functions; the environment and local.settings.json are not used.
        directory: contains function_app.py and host.json.
        port: 0 takes a free one.
        cors: options of `python -m local.host` for cross-origin requests.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        directory: Path = _REPOSITORY,
        port: int = 0,
        cors: Sequence[str] = (),
    ) -> None:
        self.child = Child(
            [sys.executable, "-m", "local.host", "--port", str(port), "--settings", os.devnull, *cors],
            environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(_REPOSITORY), **settings},
            directory=directory,
        )
        self.url = self.child.wait_until_ready(r"Listening on (\S+)", _START_TIMEOUT_S)[1]

    @property
    def log(self) -> str:
        """Everything that the host and the functions have logged so far."""
        return "\n".join(self.child.lines)

    def fire(self, name: str, *, past_due: bool = False, timeout_s: float = 600) -> None:
        """Run a timer function the way the host does by hand, and wait for its end.

        Raises:
            FunctionFailed: the function raised.
            ChildFailed: the host ended, or `timeout_s` passed.
        """
        with requests.Session() as session:
            session.trust_env = False  # no proxy for loopback
            fired = session.post(
                f"{self.url}/admin/functions/{name}", json={"input": {"IsPastDue": past_due}}, timeout=10
            )
        fired.raise_for_status()
        invocation_id = re.escape(fired.headers["X-MS-INVOCATION-ID"])
        end = self.child.wait_for(
            rf"Executed 'Functions\.{name}' \((\w+), Id={invocation_id}, \S+\) ?(.*)", timeout_s
        )
        if end[1] == "Failed":
            raise FunctionFailed(end[2])

    def stop(self) -> None:
        """Stop the host like Ctrl-C."""
        self.child.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill the host, to simulate a crash."""
        self.child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
