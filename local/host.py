"""Stand-in for the Azure Functions host, for machines without Core Tools: `python -m local.host`.

Serves the HTTP triggers of a function_app.py, runs its timers on their schedule and fires them by hand, and
hands each function what the Python worker would. It checks no function key, as Core Tools do not.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import inspect
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import uuid4

from azure import functions
from croniter import croniter

from local.host_http import Request, Response, Server
from shared.errors import ConfigurationError
from shared.settings_file import with_settings_file

_log = logging.getLogger("local.host")

_ADMIN_PATH = "admin/functions/"
_GRACE_S = 3  # how long running functions may go on after a stop
_LEVELS = {"Trace": "DEBUG", "Information": "INFO", "None": "CRITICAL"}  # where Python has another word


_thread_local_storage = threading.local()  # one for all invocations, as in the worker


class Context(NamedTuple):
    """What a function gets that asks for `context`: the part of it that means something on one machine."""

    invocation_id: str
    function_name: str
    thread_local_storage: threading.local = _thread_local_storage


@dataclass(frozen=True)
class Function:
    """A function of the app, as its decorators describe it."""

    name: str
    call: Callable[..., Any]
    argument: str
    route: str | None = None
    methods: frozenset[str] = frozenset()  # empty: every method
    schedule: str | None = None

    @property
    def description(self) -> str:
        """The line about it that the host prints when it starts."""
        if self.schedule:
            return f"{self.name}: timerTrigger {self.schedule}"
        return f"{self.name}: [{','.join(sorted(self.methods))}] /{self.route}"


def load_functions(directory: Path) -> list[Function]:
    """Import function_app.py of a directory, afresh, and return the functions of its `app`."""
    spec = importlib.util.spec_from_file_location("function_app", directory / "function_app.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"There is no function_app.py in {directory}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["function_app"] = module
    spec.loader.exec_module(module)
    return [_described(function) for function in module.app.get_functions()]


def _described(function: Any) -> Function:
    trigger = function.get_trigger().get_dict_repr()
    described = Function(function.get_function_name(), function.get_user_function(), trigger["name"])
    if trigger["type"] == "timerTrigger":
        return replace(described, schedule=trigger["schedule"])
    route = str(trigger.get("route", described.name))
    if trigger["type"] != "httpTrigger" or "{" in route:
        raise ValueError(f"The stand-in cannot serve {described.name}: {trigger['type']} {route}")
    return replace(
        described, route=route, methods=frozenset(method.value for method in trigger.get("methods", ()))
    )


def resolve(text: str, environment: Mapping[str, str]) -> str:
    """Replace each %NAME% by the setting of that name; raises ValueError when it is missing."""
    for name in re.findall("%([^%]+)%", text):
        if name not in environment:
            raise ValueError(f"the setting {name} is missing")
        text = text.replace(f"%{name}%", environment[name])
    return text


def next_occurrence(schedule: str, after: datetime) -> datetime:
    """Return the first moment after another at which an NCRONTAB schedule (seconds first, UTC) is due."""
    # In NCRONTAB a moment must fit both the day of the month and the day of the week; in cron one is enough.
    occurrences = croniter(schedule, after, second_at_beginning=True, day_or=False)
    moment: datetime = occurrences.get_next(datetime)
    return moment


class Host:
    """A running host; a context manager that stops it at the end.

    Args:
        directory: holds function_app.py and host.json.
        port: 0 takes a free one.
        environment: resolves %NAME% in schedules and gives the size of the thread pool. The functions
            themselves read the environment of the process, as they always do.
    """

    def __init__(self, directory: Path, port: int = 0, environment: Mapping[str, str] = os.environ) -> None:
        self.functions: dict[str, Function] = {}
        for function in load_functions(directory):
            try:
                schedule = function.schedule and resolve(function.schedule, environment)
                if schedule:
                    next_occurrence(schedule, datetime.now(UTC))
            except ValueError as error:  # the others are served all the same
                _log.error("The '%s' function is in error: %s", function.name, error)
            else:
                self.functions[function.name] = replace(function, schedule=schedule)
        http = json.loads((directory / "host.json").read_text("utf-8")).get("extensions", {}).get("http", {})
        self._route_prefix = http.get("routePrefix", "api")
        threads = environment.get("PYTHON_THREADPOOL_THREAD_COUNT")
        self._pool = ThreadPoolExecutor(int(threads) if threads else None)
        self._loop = asyncio.new_event_loop()
        self._timers: set[asyncio.Task[None]] = set()
        self._server = Server(port, self._answer)
        self._threads = (
            threading.Thread(target=self._loop.run_forever, daemon=True),
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
        )

    @property
    def url(self) -> str:
        """The address of the host, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Answer requests and run the timers from now on."""
        for function in self.functions.values():
            if function.schedule:
                self._timers.add(self._loop.create_task(self._run_on_schedule(function, function.schedule)))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take no more requests, give running functions a few seconds to finish, then end."""
        self._server.hang_up()
        self._wait_for(self._wind_down())
        self._server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join()
        self._loop.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def fire(self, name: str, *, past_due: bool = False) -> None:
        """Run a timer function now, wait for its end, and raise what it raised."""
        self._wait_for(self._run(self.functions[name], functions.timer.TimerRequest(past_due=past_due)))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self, request: Request) -> Response:
        path = request.path.strip("/").lower()
        if path.startswith(_ADMIN_PATH):
            return self._answer_admin(request, path.removeprefix(_ADMIN_PATH))
        for function in self.functions.values():
            if function.route is None or path != f"{self._route_prefix}/{function.route}".strip("/").lower():
                continue
            if not function.methods or request.method in function.methods:
                return self._call_http(function, request)
        return Response(HTTPStatus.NOT_FOUND)

    def _answer_admin(self, request: Request, name: str) -> Response:
        function = next((each for each in self.functions.values() if each.name.lower() == name), None)
        if request.method != "POST" or function is None or function.schedule is None:
            return Response(HTTPStatus.NOT_FOUND)
        try:
            past_due = bool(json.loads(request.body or b"{}").get("input", {}).get("IsPastDue", False))
        except (ValueError, AttributeError):
            return Response(HTTPStatus.BAD_REQUEST)
        invocation_id = str(uuid4())
        timer = functions.timer.TimerRequest(past_due=past_due)
        asyncio.run_coroutine_threadsafe(self._run(function, timer, invocation_id), self._loop)
        return Response(HTTPStatus.ACCEPTED, {"X-MS-INVOCATION-ID": invocation_id})

    def _call_http(self, function: Function, request: Request) -> Response:
        worker_request = functions.http.HttpRequest(
            method=request.method,
            url=request.url,
            headers=request.headers,
            params=request.params,
            route_params={},
            body_type="bytes",
            body=request.body,
        )
        try:
            return _response(self._wait_for(self._run(function, worker_request)))
        except Exception:  # noqa: BLE001 - whatever a function raises is a bare 500; it has been logged
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _run(self, function: Function, argument: object, invocation_id: str = "") -> object:
        """Run a function where the worker would: async ones on the event loop, others on the thread pool."""
        context = Context(invocation_id or str(uuid4()), function.name)
        began_s = time.monotonic()
        _log.info("Executing 'Functions.%s' (Id=%s)", function.name, context.invocation_id)
        try:
            if inspect.iscoroutinefunction(function.call):
                result = await _call(function, argument, context)
            else:
                result = await self._loop.run_in_executor(self._pool, _call, function, argument, context)
        except Exception as error:
            # No stack trace: it can show what a caller sent.
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            _log.error("Executed %s %s", _end("Failed", context, began_s), said)
            raise
        _log.info("Executed %s", _end("Succeeded", context, began_s))
        return result

    async def _run_on_schedule(self, function: Function, schedule: str) -> None:
        due = datetime.now(UTC)
        while True:
            # After the last one too: a sleep may end a moment early. Like the real host's, a timer that
            # runs past its next occurrence skips it.
            due = next_occurrence(schedule, max(due, datetime.now(UTC)))
            await asyncio.sleep((due - datetime.now(UTC)).total_seconds())
            with contextlib.suppress(Exception):  # it has been logged
                await asyncio.shield(self._run(function, functions.timer.TimerRequest()))

    async def _wind_down(self) -> None:
        for timer in self._timers:
            timer.cancel()
        running = asyncio.all_tasks() - {asyncio.current_task()}
        if running:
            _, late = await asyncio.wait(running, timeout=_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _call(function: Function, argument: object, context: Context) -> Any:
    if "context" in inspect.signature(function.call).parameters:
        return function.call(**{function.argument: argument}, context=context)
    return function.call(**{function.argument: argument})


def _end(outcome: str, context: Context, began_s: float) -> str:
    duration_ms = (time.monotonic() - began_s) * 1000
    name, invocation_id = context.function_name, context.invocation_id
    return f"'Functions.{name}' ({outcome}, Id={invocation_id}, Duration={duration_ms:.0f}ms)"


def _response(result: object) -> Response:
    if not isinstance(result, functions.HttpResponse):
        raise TypeError("An HTTP function must return an HttpResponse")
    headers = dict(result.headers.items())
    if not any(name.lower() == "content-type" for name in headers):
        charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
        headers["Content-Type"] = result.mimetype + charset
    return Response(result.status_code, headers, result.get_body())


def _log_to_stdout(directory: Path) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    configuration = json.loads((directory / "host.json").read_text("utf-8"))
    for name, level in configuration.get("logging", {}).get("logLevel", {}).items():
        logger = logging.getLogger(None if name == "default" else name)
        logger.setLevel(_LEVELS.get(level, level.upper()))


def main() -> None:
    """Serve the current directory until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Serve ./function_app.py.")
    parser.add_argument("--port", type=int, default=7071, help="0 takes a free one")
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("local.settings.json"),
        help="gives what the environment does not set; nothing when there is no such file",
    )
    arguments = parser.parse_args()
    directory = Path.cwd()
    try:
        os.environ.update(with_settings_file(arguments.settings))
    except ConfigurationError as error:
        sys.exit(error.message)
    _log_to_stdout(directory)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Host(directory, arguments.port) as host:
        for function in host.functions.values():
            _log.info("  %s", function.description)
        _log.info("Listening on %s", host.url)
        stopped.wait()
    # A thread that is still in a function would keep the process for as long as that takes.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
