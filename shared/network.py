"""Shared by all HTTP clients of the connector: user agent, Retry-After, cutting a socket, network errors.

Pure except for `cut`. It imports no other module of the connector.
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
"""The longest accepted Retry-After, in seconds; a longer one is reduced to this."""


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
        except (ValueError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_MAX_S) if seconds > 0 else None


def cut(sock: socket.socket) -> None:
    """Shut down a connection in both directions, from any thread; a thread that reads from it wakes up."""
    with suppress(OSError):  # it may already be closed
        # The plain socket's method, also for TLS: SSLSocket.shutdown removes the TLS state under the reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def host_of(url: str) -> str:
    """Return host and port of a URL for an error message, without path, query and credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


class Fault(NamedTuple):
    """What went wrong between us and a server.

    Attributes:
        problem: a clause that follows the server's name, such as "refused the connection".
        is_final: whether a retry would fail in the same way.
    """

    problem: str
    is_final: bool = False


UNKNOWN_FAULT = Fault("cannot be reached or dropped the connection")


def fault_of(error: BaseException) -> Fault:
    """Describe an error of a network library, without using the error's own text.

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
    """Yield an error and all its causes (context, wrapped arguments, reason), each once."""
    todo: list[object] = [error]
    seen: set[int] = set()
    while todo:
        cause = todo.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
