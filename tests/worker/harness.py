"""FunctionsWorker: runs the app on Azure's worker package; this module replaces the Functions host."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qsl

from requests.structures import CaseInsensitiveDict

APP_DIRECTORY = Path(__file__).parents[2]
HOST_URL = "http://localhost:7071"
ANSWER_TIMEOUT_S = 60


class InvocationFailed(Exception):
    """The function raised; the message is what the host logs: message and stack trace."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CaseInsensitiveDict[str]
    body: bytes
    invocation_id: str = ""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Record:
    """A log record of the app; the kinds of worker are those of `Routing`.

    Attributes:
        invocations: kind of worker → the invocation that it says the record belongs to.
        arrives: kind of worker → whether that invocation is live, so that the host takes the record.
    """

    message: str
    level: str
    invocations: dict[str, str | None]
    arrives: dict[str, bool]

    @property
    def event(self) -> dict[str, Any]:
        """The record as JSON; {} when it is not JSON."""
        return dict(json.loads(self.message)) if self.message.startswith("{") else {}


class FunctionsWorker:
    """One worker process with one app, indexed and ready; a context manager, for any number of threads.

    Attributes:
        functions: the name of each function with its bindings as the host reads them.
    """

    def __init__(self, app_directory: Path, environment: Mapping[str, str], log_path: Path) -> None:
        """Start the worker on exactly this environment; it logs everything to `log_path`."""
        self._log_path = log_path
        self._records_path = log_path.with_suffix(".records")
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own file
                [
                    sys.executable,
                    Path(__file__).with_name("worker_process.py"),
                    app_directory,
                    self._records_path,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error", **environment},
                cwd=app_directory,
                text=True,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._calls, self._answers = self._process.stdin, self._process.stdout
        self._reader = Thread(target=self._read_answers)
        index = json.loads(self._answers.readline() or "null")
        if index is None:
            self.__exit__()
            raise AssertionError(f"The worker did not start:\n{self.log}")
        self.functions: dict[str, list[dict[str, Any]]] = {
            name: function["bindings"] for name, function in index.items()
        }
        self._ids = {name: function["id"] for name, function in index.items()}
        host = json.loads((app_directory / "host.json").read_text())
        self._route_prefix = host["extensions"]["http"]["routePrefix"]
        self._numbers = count()
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._sending = Lock()
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._reader.is_alive():
            self._reader.join()
        self._calls.close()
        self._answers.close()

    @property
    def log(self) -> str:
        """All that the worker process has logged and printed so far."""
        return self._log_path.read_text("utf-8")

    @property
    def records(self) -> list[Record]:
        """Everything that the app has logged so far, with the invocation by each kind of worker."""
        if not self._records_path.exists():
            return []
        return [Record(**json.loads(line)) for line in self._records_path.read_text().splitlines()]

    def http(
        self, target: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes = b""
    ) -> Answer:
        """Route a request to a function and invoke it as the host does; `target` is path and raw query.

        Raises:
            InvocationFailed: the function raised (the host then answers 500 without a body).
        """
        path, _, query = target.partition("?")
        trigger = self._route(method, path.strip("/"))
        if trigger is None:
            return Answer(404, CaseInsensitiveDict(), b"")
        request = {
            "method": method,
            "url": HOST_URL + target,
            "headers": {name.lower(): value for name, value in (headers or {}).items()},
            "query": host_query(query),
        }
        answer = self._invoke(*trigger, http=request, body=body.decode("latin-1"))
        return Answer(
            answer["status"],
            CaseInsensitiveDict(answer["headers"]),
            answer["body"].encode("latin-1"),
            answer["invocation"],
        )

    def timer(self, function: str, *, past_due: bool = False) -> None:
        """Fire a timer function as its schedule does.

        Raises:
            InvocationFailed: the function raised, so that the platform marks the run as failed.
        """
        moments = dict.fromkeys(("Last", "Next", "LastUpdated"), "2026-01-01T00:00:00+00:00")
        timer = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": moments, "IsPastDue": past_due}
        self._invoke(function, self.functions[function][0]["name"], json=json.dumps(timer))

    def _route(self, method: str, path: str) -> tuple[str, str] | None:
        """Return the function for a request and the name of its trigger's parameter."""
        for function, (trigger, *_) in self.functions.items():
            if trigger["type"] == "httpTrigger" and method in trigger["methods"]:
                route = "/".join(filter(None, (self._route_prefix, trigger["route"])))
                if path.lower() == route.lower():
                    return function, trigger["name"]
        return None

    def _invoke(self, function: str, trigger: str, **data: object) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = Future()
        call = {"call": number, "function_id": self._ids[function], "trigger": trigger, **data}
        with self._sending:
            self._calls.write(json.dumps(call) + "\n")
            self._calls.flush()
        result = answer.result(ANSWER_TIMEOUT_S)
        if "failure" in result:
            raise InvocationFailed(result["failure"])
        return result

    def _read_answers(self) -> None:
        for line in self._answers:
            answer = json.loads(line)
            self._waiting.pop(answer["call"]).set_result(answer)
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError(f"The worker has ended:\n{self.log}"))


StartWorker = Callable[..., FunctionsWorker]
"""The fixture `start_worker`: takes settings by name."""


def host_query(query: str) -> dict[str, str]:
    """Parse a raw query into a mapping like the host.

    Names are compared without case, a repeated one's values are joined with commas, empty values are dropped.
    """
    names: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        values.setdefault(names.setdefault(name.lower(), name), []).append(value)
    return {name: ",".join(parts) for name, parts in values.items()}
