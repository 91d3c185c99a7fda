"""A test app with functions of every kind, and a host that serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.host import Host

APP = """
import asyncio, gzip, json, threading, time
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
fired = []

@app.route(route="Links/echo", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method, "url": req.url, "headers": dict(req.headers), "params": dict(req.params),
        "body": req.get_body().decode(), "thread": threading.current_thread().name,
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json", headers={"X-Own": "yes"})

@app.route(route="slow", methods=["GET"])
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    await asyncio.sleep(0.5)
    return func.HttpResponse("slept")

@app.route(route="blocking", methods=["GET"])
def blocking(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(0.3)
    return func.HttpResponse("blocked")

@app.route(route="status", methods=["GET"])
async def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=int(req.params["code"]), headers={"ETag": 'W/"1"'})

@app.route(route="zipped", methods=["GET"])
async def zipped(req: func.HttpRequest) -> func.HttpResponse:
    headers = {"Content-Encoding": "gzip", "vary": "Accept-Encoding"}
    return func.HttpResponse(gzip.compress(b"[]"), headers=headers)

@app.route(route="not_modified", methods=["GET"])
async def not_modified(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=304, mimetype="application/json")

@app.route(route="broken", methods=["GET"])
async def broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("broken on purpose")

@app.route(route="no_answer", methods=["GET"])
def no_answer(req: func.HttpRequest):
    return None

@app.function_name("named")
@app.route(route="context", methods=["GET"])
async def named_otherwise(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(json.dumps([context.function_name, context.invocation_id]))

@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    fired.append(timer.past_due)

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def failing(timer: func.TimerRequest) -> None:
    await asyncio.sleep(0.1)
    raise RuntimeError("failed\\non purpose")

@app.timer_trigger(arg_name="timer", schedule="%MISSING%")
def misconfigured(timer: func.TimerRequest) -> None: ...

@app.timer_trigger(arg_name="timer", schedule="@hourly")
def never_accepted(timer: func.TimerRequest) -> None: ...

@app.timer_trigger(arg_name="timer", schedule="0 0 0 30 2 *")
def never_due(timer: func.TimerRequest) -> None: ...
"""
NEVER = "0 0 0 1 1 *"


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("app")
    (directory / "function_app.py").write_text(APP)
    (directory / "host.json").write_text('{"extensions": {"http": {"routePrefix": "Pre"}}}')
    return directory


@pytest.fixture(scope="module")
def host(app_directory: Path) -> Iterator[Host]:
    environment = {"SCHEDULE": NEVER, "PYTHON_THREADPOOL_THREAD_COUNT": "2"}
    with Host(app_directory, environment=environment) as host:
        yield host
