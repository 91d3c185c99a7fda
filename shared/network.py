"""What every HTTP exchange of ours shares: our name, Retry-After, how to cut a socket, what an error means.

Pure but for `cut`. It imports nothing of ours, so that each part that talks to a server can use it.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

USER_AGENT = "luminus-edx-connector"

RETRY_AFTER_MAX_S = 24 * 60 * 60
"""The longest wait that a Retry-After can ask for, in seconds; a longer one counts as this."""


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After (seconds or an HTTP date) asks to wait, at most 24 hours.

    Returns:
        None when it is absent, malformed, 0, negative or in the past.
    """
    text = (header or "").strip()
    if re.fullmatch("[0-9]+", text):
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_MAX_S) if seconds > 0 else None


def cut(sock: socket.socket) -> None:
    """Shut a connection down in both directions, from any thread; whoever reads from it wakes up."""
    with suppress(OSError):  # it may have been closed just now
        # The plain socket's method, for TLS too: SSLSocket's own takes the TLS state away from the reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def host_of(url: str) -> str:
    """Return the host, and the port if there is one, for an error message: no path, query or credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


class Fault(NamedTuple):
    """What went wrong between us and a server.

    Attributes:
        problem: a clause that follows the server's name, such as "refused the connection".
        is_final: whether a further try would fail in the same way.
    """

    problem: str
    is_final: bool = False


UNKNOWN_FAULT = Fault("cannot be reached or dropped the connection")


def fault_of(error: BaseException) -> Fault:
    """Say what an error of a network library means. Nothing of the error's own text is shown.

    Libraries wrap the system's error two or three times, so the whole chain is searched for it.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault(
                f"cannot be reached: TLS certificate not valid ({cause.verify_message})", is_final=True
            )
    for kinds, problem in _PROBLEMS:
        if any(isinstance(cause, kinds) for cause in chain):
            return Fault(problem)
    return UNKNOWN_FAULT


_PROBLEMS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (socket.gaierror, "cannot be reached: unknown host"),
    (ConnectionRefusedError, "cannot be reached: connection refused"),
    (ssl.SSLError, "cannot be reached: TLS failed"),
    ((TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError), "did not answer in time"),
    ((ConnectionResetError, ConnectionAbortedError, BrokenPipeError), "dropped the connection"),
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it was raised from, wraps, or names as its reason, each once."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        cause = todo.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
