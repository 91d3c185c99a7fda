"""The triggers: each parses its input, calls one use case and answers. HTTP statuses are assigned here."""

import json
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from threading import Lock
from typing import Final

import azure.functions as func

from shared.api.access import Access
from shared.api.contract import (
    accepts_gzip,
    answer_headers,
    matches,
    next_link,
    parse_changes_question,
    parse_question,
)
from shared.deadline import Deadline
from shared.errors import (
    BadRequest,
    ConnectorError,
    Forbidden,
    NotFound,
    Unauthenticated,
    log_unexpected,
)
from shared.serving.answering import Reader
from shared.serving.outbox import Outbox
from shared.serving.rounds import ROUND_S
from shared.settings import TIME_BUDGET_MAX_S
from shared.sync.run import Origin
from shared.version import __version__
from shared.wiring import Connector, connect, connect_access

logger = logging.getLogger(__name__)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

STATUSES: Final[dict[type[ConnectorError], int]] = {
    BadRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    ConnectorError: 500,
}
"""The HTTP status of each error class; a class that is not here has the status of its base class."""


class Process:
    """The parts that this process keeps between invocations; each is built when it is first needed."""

    def __init__(self, connect: Callable[[Outbox], Connector] = connect) -> None:
        self.outbox = Outbox()
        self._connect = connect
        self._lock = Lock()
        self._access: Access | None = None
        self._connector: Connector | None = None

    def access(self) -> Access:
        with self._lock:
            self._access = self._access or connect_access(self.outbox)
            return self._access

    def connector(self) -> Connector:
        with self._lock:
            self._connector = self._connector or self._connect(self.outbox)
            return self._connector


process = Process()


@app.function_name("course_runs")
@app.route(route="ExternalLinks/edXCourseruns", methods=["GET"])
async def course_runs(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Bring the catalogue up to date and return it, to an administrator who comes through API Management."""
    return await _answered(lambda: _course_runs(req, context))


async def _course_runs(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    deadline = Deadline.after(TIME_BUDGET_MAX_S)
    header = req.headers.get
    await _check_access(req)
    question = parse_question(req.url, req.params, header("Cache-Control"))
    reader = Reader(
        lambda tag: matches(header("If-None-Match"), tag), accepts_gzip(header("Accept-Encoding"))
    )
    origin = Origin("http", context.invocation_id)
    answer = await process.connector().answering.answer(question, reader, origin, deadline)
    headers = answer_headers(answer.tag, answer.age_s, answer.cache_status) | _retry_after(answer.retry_at)
    if answer.is_gzip:
        headers["Content-Encoding"] = "gzip"
    # Without a Content-Type, the host sends text/plain with a 304.
    return func.HttpResponse(
        answer.body,
        status_code=304 if answer.body is None else 200,
        headers=headers,
        mimetype="application/json",
    )


@app.function_name("course_run_changes")
@app.route(route="ExternalLinks/edXCourseruns/changes", methods=["GET"])
async def course_run_changes(req: func.HttpRequest) -> func.HttpResponse:
    """Return the history of changes in the answer, to an administrator; never calls edX."""
    return await _answered(lambda: _course_run_changes(req))


async def _course_run_changes(req: func.HttpRequest) -> func.HttpResponse:
    deadline = Deadline.after(TIME_BUDGET_MAX_S)
    await _check_access(req)
    question = parse_changes_question(req.url, req.params)
    page = await process.connector().changes.read(question, deadline)
    headers = {"Cache-Control": "private, no-cache"}
    if page.cursor is not None:
        headers["Link"] = next_link(question, page.cursor)
    return func.HttpResponse(
        json.dumps(page.entries, ensure_ascii=False), headers=headers, mimetype="application/json"
    )


@app.function_name("sync_course_runs")
@app.timer_trigger(arg_name="timer", schedule="%SYNC_SCHEDULE%", run_on_startup=False, use_monitor=True)
async def sync_course_runs(timer: func.TimerRequest, context: func.Context) -> None:
    """Sync every catalog; a failed sync makes the invocation fail, so that the platform reports it."""
    process.outbox.flush()
    deadline = Deadline.after(ROUND_S)
    if timer.past_due:
        logger.warning("The timer is past due; syncing now")
    try:
        rounds = process.connector().rounds
        await rounds.sync_all(Origin("timer", context.invocation_id), deadline, logger.info)
    finally:
        process.outbox.flush()


@app.function_name("health")
@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the worker passes it
    """Answer probes with the version; uses neither edX nor storage."""
    process.outbox.flush()
    return func.HttpResponse(
        json.dumps({"status": "healthy", "version": __version__}), mimetype="application/json"
    )


async def _check_access(req: func.HttpRequest) -> None:
    access = process.access()
    access.check_subscription(req.headers.get("Ocp-Apim-Subscription-Key"))
    await access.check_admin(req.headers.get("Authorization"))


async def _answered(answer: Callable[[], Awaitable[func.HttpResponse]]) -> func.HttpResponse:
    """Answer a request, also after an unexpected error; log the lines of syncs in this invocation."""
    process.outbox.flush()
    try:
        return await answer()
    except ConnectorError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 - callers get no stack trace and no unknown text
        log_unexpected(logger, error)
        return _failed(
            ConnectorError(
                "The connector failed unexpectedly; its log has the cause. What was stored before is intact."
            )
        )
    finally:
        process.outbox.flush()


def _failed(error: ConnectorError) -> func.HttpResponse:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status == STATUSES[ConnectorError]:
        logger.error("%s", error.message)
    headers = {"Cache-Control": "no-store"} | _retry_after(error.retry_at)
    if isinstance(error, Unauthenticated) and error.challenge:
        headers["WWW-Authenticate"] = "Bearer"
    return func.HttpResponse(
        json.dumps(error.message, ensure_ascii=False),
        status_code=status,
        headers=headers,
        mimetype="application/json",
    )


def _retry_after(moment: datetime | None) -> dict[str, str]:
    if moment is None:
        return {}
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
