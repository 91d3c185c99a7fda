"""The triggers in this process: errors, stale data, log lines; other answers are in contract/ and worker/."""

import asyncio
import importlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from local.host.functions import Context, load_functions
from local.sandbox import Sandbox
from local.sandbox.faults import throttle
from shared.domain.changes import Entry
from shared.errors import ConnectorError, Forbidden, NotFound
from shared.serving.history import ChangesReader
from shared.serving.outbox import Outbox
from shared.storage.history import Published
from shared.version import __version__
from shared.wiring import Connector, connect
from tests.attacks import KEY, honest_headers
from tests.serving.fakes import NOW, House
from tests.worker.harness import APP_DIRECTORY

SECRET = "s3cr3t"
SENTENCE = "The connector failed unexpectedly; its log has the cause. What was stored before is intact."


class App:
    """The functions, newly loaded, which use the connector of a test and are called by an administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._functions = {function.name: function for function in load_functions(APP_DIRECTORY)}
        self._module: Any = importlib.import_module("function_app")  # the one that has just been loaded

    def connected_by(self, connect: Callable[[Outbox], Connector]) -> "App":
        """Begin a process whose connector is built by `connect`; an earlier invocation has left a line."""
        self._module.process = self._module.Process(connect)
        self._module.process.outbox.say(logging.INFO, "earlier line")
        return self

    def ask(self, function: str = "course_runs", query: str = "", **headers: str) -> func.HttpResponse:
        """Send a request; an underscore in a header's name stands for a hyphen."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        url, sent = f"http://localhost/?{query}", {**honest_headers(self._sandbox), **more}
        request = func.HttpRequest("GET", url, headers=sent, params={}, body=b"")
        answer = self._call(function, request)
        assert isinstance(answer, func.HttpResponse)
        return answer

    def fire_timer(self, *, past_due: bool) -> None:
        self._call("sync_course_runs", SimpleNamespace(past_due=past_due))

    def _call(self, function: str, argument: object) -> object:
        return asyncio.run(self._functions[function](argument, Context("0a1b", function)))


@pytest.fixture
def app(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> App:
    for name, value in {**sandbox.settings(), "APIM_SUBSCRIPTION_KEYS": KEY}.items():
        monkeypatch.setenv(name, value)
    return App(sandbox)


def failing(error: Exception) -> Callable[[Outbox], Connector]:
    def fail(outbox: Outbox) -> Connector:
        outbox.say(logging.INFO, "last line")
        raise error

    return fail


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.message) for record in caplog.records]


EARLIER, LAST = (logging.INFO, "earlier line"), (logging.INFO, "last line")


# Errors


@pytest.mark.parametrize("function", ["course_runs", "course_run_changes"])
def test_unexpected_error_is_logged_and_answered_without_its_text(
    app: App, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    answered = app.connected_by(failing(ZeroDivisionError(SECRET))).ask(function)
    assert answered.status_code == 500
    assert json.loads(answered.get_body()) == SENTENCE
    first, second = caplog.records
    assert (first.name, first.levelno) == ("function_app", logging.ERROR)
    assert first.message.startswith("Unexpected ZeroDivisionError\n")
    assert second.message == SENTENCE
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "logged"),
    [
        (ConnectorError("no luck"), 500, [EARLIER, (logging.ERROR, "no luck"), LAST]),
        (Forbidden("no luck"), 403, [EARLIER, LAST]),
        (NotFound("no luck"), 404, [EARLIER, LAST]),
    ],
)
def test_error_is_logged_between_the_lines_of_syncs_when_it_is_not_the_callers(
    app: App,
    caplog: pytest.LogCaptureFixture,
    error: ConnectorError,
    status: int,
    logged: list[tuple[int, str]],
) -> None:
    caplog.set_level(logging.INFO, "shared.serving.outbox")
    assert app.connected_by(failing(error)).ask().status_code == status
    assert lines(caplog) == logged


def test_message_of_an_error_is_json_with_letters_of_any_script_unescaped(app: App) -> None:
    answered = app.connected_by(failing(ConnectorError("Table Storage failed: 帐户已禁用"))).ask()
    assert answered.get_body().decode() == '"Table Storage failed: 帐户已禁用"'
    assert answered.mimetype == "application/json"
    assert dict(answered.headers) == {"Cache-Control": "no-store"}


@pytest.mark.parametrize(("seconds", "least", "most"), [(-100, 1, 1), (0, 1, 1), (3600, 3591, 3600)])
def test_retry_after_is_in_whole_seconds_and_at_least_1(
    app: App, seconds: int, least: int, most: int
) -> None:
    retry_at = datetime.now(UTC) + timedelta(seconds=seconds)
    answered = app.connected_by(failing(ConnectorError("no luck", retry_at))).ask()
    assert least <= int(answered.headers["Retry-After"]) <= most
    assert answered.headers["Cache-Control"] == "no-store"


# Answers


def test_stale_answer_says_when_a_sync_can_be_tried_again_and_all_requests_share_one_connector(
    app: App, sandbox: Sandbox, settings: dict[str, str]
) -> None:
    connectors = []

    def connected(outbox: Outbox) -> Connector:
        connectors.append(connect(outbox, {**settings, "EDX_CATALOG_IDS": "1"}))
        return connectors[-1]

    app.connected_by(connected)
    fresh = app.ask()
    sandbox.on("/courses/", throttle(3592))
    stale = app.ask(Cache_Control="max-age=0", Accept_Encoding="gzip")
    assert (fresh.status_code, stale.status_code) == (200, 200)
    assert "Retry-After" not in fresh.headers
    assert 3580 <= int(stale.headers["Retry-After"]) <= 3592
    assert (fresh.headers.get("Content-Encoding"), stale.headers["Content-Encoding"]) == (None, "gzip")
    (connector,) = connectors
    reports = list(connector.tables.reports.newest())
    assert [(report.trigger, report.invocation_id) for report in reports] == [("http", "0a1b")] * 2
    assert len(sandbox.requests_to("/jwks")) == 1


def test_history_is_json_with_letters_of_any_script_unescaped_and_a_link_to_the_next_page(app: App) -> None:
    house = House()
    house.history.published[1] = [
        Published(NOW, "g", tuple(Entry(kind="added", courserun_key=key, id=key) for key in ("École", "b")))
    ]
    history: Any = house.history
    reader = ChangesReader(history, house.parts[1], pool=house.pool)
    connector: Any = SimpleNamespace(changes=reader)
    app.connected_by(lambda _outbox: connector)
    whole, page = app.ask("course_run_changes"), app.ask("course_run_changes", "limit=1")
    assert [entry["courserunKey"] for entry in json.loads(whole.get_body())] == ["École", "b"]
    assert "École" in whole.get_body().decode()
    assert (whole.mimetype, dict(whole.headers)) == (
        "application/json", {"Cache-Control": "private, no-cache"},
    )  # fmt: skip
    assert page.headers["Link"].startswith("<?limit=1&cursor=")


def test_health_is_json_and_logs_the_lines_of_syncs(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shared.serving.outbox")
    health = app.connected_by(failing(ZeroDivisionError())).ask("health")
    assert json.loads(health.get_body()) == {"status": "healthy", "version": __version__}
    assert (health.status_code, health.mimetype) == (200, "application/json")
    assert lines(caplog) == [EARLIER]


# The timer


@pytest.mark.parametrize("past_due", [True, False])
def test_timer_logs_the_lines_of_syncs_and_a_warning_when_it_is_past_due(
    app: App, caplog: pytest.LogCaptureFixture, *, past_due: bool
) -> None:
    caplog.set_level(logging.INFO, "shared.serving.outbox")
    app.connected_by(failing(ConnectorError("no luck")))
    with pytest.raises(ConnectorError, match="no luck"):
        app.fire_timer(past_due=past_due)
    warning = (logging.WARNING, "The timer is past due; syncing now")
    assert lines(caplog) == [EARLIER, *([warning] if past_due else []), LAST]
