"""Callers of the HTTP contract: over HTTP through the replacement host, and on the worker that Azure runs.

Both take the same requests and return status, headers and the unchanged body.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import requests

from local.host.process import HostProcess
from tests.attacks import PATH
from tests.worker.harness import Answer, FunctionsWorker

Send = Callable[[str, str, Mapping[str, str], bytes], Answer]
"""Method, target (path and raw query), headers, body."""


def over_http(host: HostProcess) -> Send:
    """Send requests to the replacement host."""

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with requests.Session() as session:
            session.trust_env = False  # a .netrc would replace the token
            session.headers["Accept-Encoding"] = "identity"
            url = f"{host.url}{target}"
            response = session.request(method, url, headers=headers, data=body, timeout=30, stream=True)
            raw = response.raw.read(decode_content=False)  # requests would decompress a gzip body
        return Answer(response.status_code, response.headers, raw)

    return send


def on_worker(worker: FunctionsWorker) -> Send:
    """Make the worker invoke the functions like the Azure Functions host."""
    return lambda method, target, headers, body: worker.http(target, headers, method=method, body=body)


class Caller:
    """Sends requests with the key and token of an administrator."""

    def __init__(self, send: Send, proofs: Mapping[str, str]) -> None:
        self._send = send
        self._proofs = proofs

    def get(
        self, query: str = "", *, path: str = "", method: str = "GET", body: bytes = b"", **headers: Any
    ) -> Answer:
        """Send a request; an underscore in a header's name stands for a hyphen, None leaves it out."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**self._proofs, **more}.items() if value is not None}
        return self._send(method, f"{PATH}{path}?{query}", sent, body)

    def keys(self, query: str = "") -> list[str]:
        """Return the run keys of an answer."""
        return [run["courserunKey"] for run in self.get(query).json()]


Start = Callable[[], AbstractContextManager[Caller]]
"""Starts the functions on tables of their own."""
