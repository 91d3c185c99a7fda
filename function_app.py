"""The triggers: each parses what comes in, calls one use case and answers. HTTP statuses are decided here."""

import asyncio
import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

import azure.functions as func

from shared import wiring
from shared.api.contract import accepts_gzip, answer_headers, matches, parse_question
from shared.domain.published import unpack
from shared.errors import (
    BadRequest,
    ConnectorError,
    EdxUnavailable,
    Forbidden,
    NotFound,
    Unauthenticated,
    log_unexpected,
)
from shared.sync.sync import Caller

logger = logging.getLogger(__name__)

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

STATUSES: Final[dict[type[ConnectorError], int]] = {
    BadRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    ConnectorError: 500,
}
"""The status of each kind of error; a kind that is not here has that of the kind it belongs to."""


@app.function_name("course_runs")
@app.route(route="ExternalLinks/edXCourseruns", methods=["GET"])
async def course_runs(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Bring the catalogue up to date and return it, to an administrator who comes through API Management."""
    header = req.headers.get
    try:
        access = wiring.access()
        access.check_subscription(header("Ocp-Apim-Subscription-Key"))
        await asyncio.to_thread(access.check_admin, header("Authorization"))
        question = parse_question(req.url, req.params, header("Cache-Control"))
        answer = await wiring.catalogue().answer(
            question,
            lambda tag: matches(header("If-None-Match"), tag),
            Caller("http", context.invocation_id),
            _attach(context),
        )
    except ConnectorError as error:
        return _error(error)
    except Exception as error:  # noqa: BLE001 - nobody gets a stack trace, nor a text that may hold anything
        log_unexpected(logger, error)
        return _error(ConnectorError("The connector failed unexpectedly. What was stored before is intact."))
    headers = answer_headers(answer.tag, answer.age_s)
    if answer.packed is None:
        return func.HttpResponse(status_code=304, headers=headers)
    if accepts_gzip(header("Accept-Encoding")):
        headers["Content-Encoding"] = "gzip"
        body = answer.packed
    else:
        body = await asyncio.to_thread(unpack, answer.packed)
    return func.HttpResponse(body, status_code=200, headers=headers, mimetype="application/json")


@app.function_name("sync_course_runs")
@app.timer_trigger(arg_name="timer", schedule="%SYNC_SCHEDULE%", run_on_startup=False, use_monitor=True)
def sync_course_runs(timer: func.TimerRequest, context: func.Context) -> None:
    """Sync every catalog; a failure fails the invocation, so that the platform marks it."""
    if timer.past_due:
        logger.warning("The timer is past due; syncing now")
    wiring.catalogue().sync_all(Caller("timer", context.invocation_id), _attach(context))


@app.function_name("health")
@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the worker hands it in
    """Tell probes that the app runs; depends on nothing."""
    return func.HttpResponse('"healthy"', mimetype="application/json")


def _attach(context: func.Context) -> Callable[[], None]:
    def attach() -> None:
        local = cast(Any, context.thread_local_storage)  # an instance, though typed as the class
        local.invocation_id = context.invocation_id

    return attach


def _error(error: ConnectorError) -> func.HttpResponse:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    if status == STATUSES[ConnectorError]:
        logger.error("%s", error.message)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Unauthenticated) and error.challenge:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, EdxUnavailable) and error.retry_at:
        seconds = (error.retry_at - datetime.now(UTC)).total_seconds()
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return func.HttpResponse(
        json.dumps(error.message, ensure_ascii=False),
        status_code=status,
        headers=headers,
        mimetype="application/json",
    )
