"""Tests that need Microsoft's Functions host. It runs by Core Tools, if `func` is on the PATH.

FUNCTIONS_HOST_URL names a running host instead; then only requests without a key are tested.
"""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from local.azurite import Azurite
from local.child import Child
from local.sandbox import Sandbox

REPOSITORY = Path(__file__).parents[2]
ROUTE = "/ExternalLinks/edXCourseruns"
KEY = "real-host-key"
FUNC = shutil.which("func")
GIVEN_URL = os.environ.get("FUNCTIONS_HOST_URL", "").rstrip("/")

needs_func = pytest.mark.skipif(FUNC is None, reason="Core Tools are not on the PATH")
needs_a_host = pytest.mark.skipif(
    not (FUNC or GIVEN_URL), reason="neither Core Tools on the PATH nor FUNCTIONS_HOST_URL"
)


@contextmanager
def func_start(settings: Mapping[str, str], *options: str) -> Iterator[tuple[str, Child]]:
    """Run `func start` and give its URL and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # free again in a moment
    python = Path(sys.executable).parent
    child = Child(
        [str(FUNC), "start", "--port", str(port), *options],
        environment={
            **os.environ,
            **settings,
            "VIRTUAL_ENV": str(python.parent),
            "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        },
        directory=REPOSITORY,
    )
    try:
        child.wait_until_ready(r"course_runs: \[GET\]", 180)
        yield f"http://127.0.0.1:{port}", child
    finally:
        child.stop()


@pytest.fixture(scope="module")
def app_settings() -> Iterator[tuple[Sandbox, dict[str, str]]]:
    """All settings of the app, on a sandbox edX and an Azurite with blobs, which the timer needs."""
    example = json.loads((REPOSITORY / "local.settings.example.json").read_text())["Values"]
    with Sandbox() as sandbox, Azurite(everything=True) as azurite:
        yield (
            sandbox,
            {
                **example,
                **sandbox.settings(),
                "AzureWebJobsStorage": azurite.connection_string,
                "TABLES_CONNECTION_STRING": azurite.connection_string,
                "TABLES_PREFIX": f"T{uuid4().hex}",
                "APIM_SUBSCRIPTION_KEYS": KEY,
                "SYNC_SCHEDULE": "*/20 * * * * *",
            },
        )


@pytest.fixture(scope="module")
def guarded_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A host that checks function keys, as in Azure."""
    if GIVEN_URL:
        yield GIVEN_URL
        return
    _, settings = request.getfixturevalue("app_settings")
    with func_start(settings | {"SYNC_SCHEDULE": "0 0 0 1 1 *"}, "--enableAuth") as (url, _):
        yield url


@pytest.fixture(scope="module")
def open_host(app_settings: tuple[Sandbox, dict[str, str]]) -> Iterator[tuple[str, Child, Sandbox]]:
    """A host that checks no function keys, with a timer that fires every twenty seconds."""
    sandbox, settings = app_settings
    with func_start(settings) as (url, child):
        yield url, child, sandbox


@needs_a_host
@pytest.mark.parametrize("path", [ROUTE, f"{ROUTE}?courserunKey=x"])
def test_the_answer_is_an_empty_401_when_the_function_key_is_missing(guarded_url: str, path: str) -> None:
    answer = requests.get(guarded_url + path, timeout=60)
    assert (answer.status_code, answer.content) == (401, b"")


@needs_a_host
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_answer_is_404_when_the_method_is_not_get(guarded_url: str, method: str) -> None:
    answer = requests.request(method, guarded_url + ROUTE, timeout=60)
    assert (answer.status_code, answer.content) == (404, b"")


@needs_a_host
def test_health_needs_no_key_and_the_host_has_no_home_page(guarded_url: str) -> None:
    assert requests.get(f"{guarded_url}/health", timeout=60).status_code == 200
    assert requests.get(guarded_url, timeout=60).content == b""


@needs_func
def test_the_log_line_of_a_sync_names_its_invocation_when_the_timer_fires(
    open_host: tuple[str, Child, Sandbox],
) -> None:
    _, child, _ = open_host
    tick = child.wait_for(r"Executing 'Functions\.sync_course_runs' \(.*Id=([0-9a-f-]{36})", 90)
    line = child.wait_for(r'\{.*"event": "sync".*\}', 90)
    assert json.loads(line[0])["invocation_id"] == tick[1]
    child.wait_for(rf"Executed 'Functions\.sync_course_runs' \(Succeeded, Id={tick[1]}", 90)


@needs_func
def test_a_304_is_json_with_its_headers_when_the_tag_matches(open_host: tuple[str, Child, Sandbox]) -> None:
    url, child, sandbox = open_host
    child.wait_for(r"Executed 'Functions\.sync_course_runs' \(Succeeded", 120)
    headers = {"Ocp-Apim-Subscription-Key": KEY, "Authorization": f"Bearer {sandbox.mint()}"}
    first = requests.get(url + ROUTE, headers=headers, timeout=240)
    again = requests.get(url + ROUTE, headers=headers | {"If-None-Match": first.headers["ETag"]}, timeout=240)

    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert again.headers["Content-Type"].startswith("application/json")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert re.fullmatch("[0-9]+", again.headers["Age"])
