"""Replaces the Functions host: routes requests, runs timers, and calls functions as the Python worker does.

Like Core Tools on a developer's machine, it checks no function key.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import os
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from azure import functions

from local.host.cors import Cors
from local.host.functions import Context, Function, load_functions, resolved
from local.host.http import Request, Response, Server
from shared.ncrontab import next_occurrence

_log = logging.getLogger("local.host")

_ADMIN_PATH = "admin/functions/"
_GRACE_S = 3  # time for running functions to finish after a stop

# The real one is a page of Microsoft's; with AzureWebJobsDisableHomepage it is 204 (HomepageMiddleware.cs).
_HOME_PAGE = Response(
    HTTPStatus.OK,
    {"Content-Type": "text/html"},
    b"<h1>The replacement for the Functions host is running</h1>",
)


class Host:
    """A running host; a context manager that stops it at the end.

    Args:
        directory: contains function_app.py and host.json.
        port: 0 takes a free one.
        environment: resolves %NAME% in schedules, and gives the size of the thread pool and whether there is
            a home page. The functions themselves read the environment of the process, as they always do.
        cors: which origins may read answers; none when None.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        environment: Mapping[str, str] = os.environ,
        cors: Cors | None = None,
    ) -> None:
        self.functions: dict[str, Function] = {}
        for function in load_functions(directory):
            try:
                self.functions[function.name] = resolved(function, environment)
            except ValueError as error:  # the other functions are still served
                _log.error("The '%s' function is in error: %s", function.name, error)
        http = json.loads((directory / "host.json").read_text("utf-8")).get("extensions", {}).get("http", {})
        self._route_prefix = http.get("routePrefix", "api")
        self._home_page = environment.get("AzureWebJobsDisableHomepage", "").lower() != "true"
        self._cors = cors or Cors()
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
        """Accept no more requests, give running functions a few seconds to finish, then end."""
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
        return self._cors.preflight(request) or self._cors.shared(request, self._route(request))

    def _route(self, request: Request) -> Response:
        path = request.path.strip("/").lower()
        if path.startswith(_ADMIN_PATH):
            return self._answer_admin(request, path.removeprefix(_ADMIN_PATH))
        for function in self.functions.values():
            if function.route is None or path != f"{self._route_prefix}/{function.route}".strip("/").lower():
                continue
            if not function.methods or request.method in function.methods:
                return self._call_http(function, request)
        if request.path == "/":
            return _HOME_PAGE if self._home_page else Response(HTTPStatus.NO_CONTENT)
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
        except Exception:  # noqa: BLE001 - any error is a 500 without a body; it has been logged
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _run(self, function: Function, argument: object, invocation_id: str = "") -> object:
        """Run a function like the worker: async ones on the event loop, others in the thread pool."""
        context = Context(invocation_id or str(uuid4()), function.name)
        began_s = time.monotonic()
        _log.info("Executing 'Functions.%s' (Id=%s)", function.name, context.invocation_id)
        try:
            if inspect.iscoroutinefunction(function.call):
                result = await function(argument, context)
            else:
                result = await self._loop.run_in_executor(self._pool, function, argument, context)
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
            occurrence = next_occurrence(schedule, max(due, datetime.now(UTC)))
            if occurrence is None:  # never, such as on February 30
                return
            due = occurrence
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
