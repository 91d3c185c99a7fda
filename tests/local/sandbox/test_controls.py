"""The controls for other processes."""

import socket
import subprocess
import sys
from contextlib import suppress

import jwt
import pytest
import requests

from local.sandbox import Sandbox
from local.sandbox.controls import ACTIONS, CHANGES, COMMANDS, KNOBS
from local.sandbox.manual import EXAMPLES, Example
from tests.local.sandbox.caller import COURSES, Caller


def test_knobs_can_be_set_over_http(edx: Caller) -> None:
    rule = {
        "path": "/courses/",
        "action": "throttle",
        "with": {"retry_after": "soon"},
        "times": 1,
        "offset": 0,
    }
    shown = edx.control("knobs", latency_s=0.01, expires_in=7, rules=[rule]).json()
    assert (shown["latency_s"], shown["expires_in"]) == (0.01, 7)
    assert edx.token()["expires_in"] == 7
    assert [edx.get().headers.get("Retry-After") for _ in range(2)] == ["soon", None]
    edx.control("catalogs/1", remove=["NUSx+0x"], alter_runs={"course-v1:NUSx+1x+1T2026": {"min_effort": 9}})
    assert edx.get().json()["results"][0]["course_runs"][0]["min_effort"] == 9
    log = edx.session.get(f"{edx.sandbox.url}sandbox/requests", timeout=5).json()
    assert [request["status"] for request in log["requests"]] == [200, 429, 200, 200]
    refused = edx.control("knobs", latency=1)
    assert (refused.status_code, refused.json()) == (400, {"detail": "No such knob: latency"})


def test_sandbox_runs_alone_when_started_as_a_module() -> None:
    command = [sys.executable, "-m", "local.sandbox", "--courses", "30", "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own module
        try:
            assert process.stdout
            url = process.stdout.readline().removeprefix("edX sandbox at ").strip()
            settings = dict(process.stdout.readline().strip().split("=", 1) for _ in range(7))
            assert settings["EDX_API_URL"] == f"{url}catalog/v1/"
            assert settings["EDX_CLIENT_SECRET"] == "sandbox-secret"
            token = requests.post(f"{url}mint", data={"sub": "me"}, timeout=5).text.strip()
            assert jwt.decode(token, options={"verify_signature": False})["sub"] == "me"
        finally:
            process.terminate()


def test_rules_are_refused_as_a_whole_when_one_has_a_mistake(edx: Caller) -> None:
    good = {"path": "/courses/", "action": "answer", "with": {"status": 503}}
    for mistake in ({"path": "("}, {"action": "unknown"}, {"often": 1}, {"with": {"unknown": 1}}):
        refused = edx.control("knobs", rules=[good, {**good, **mistake}], latency_s=1)
        assert (refused.status_code, list(refused.json())) == (400, ["detail"])
    assert (edx.sandbox.rules, edx.sandbox.latency_s) == ([], 0)


def test_arguments_of_a_rule_can_be_a_list(edx: Caller) -> None:
    edx.control("knobs", rules=[{"path": "/courses/", "action": "without", "with": ["count"]}])
    assert list(edx.get().json()) == ["next", "previous", "results"]


def test_change_is_refused_when_it_is_malformed(edx: Caller) -> None:
    assert edx.control("catalogs/1", removed=["NUSx+0x"]).status_code == 400
    assert edx.control("catalogs/1", remove=["NUSx+unknown"]).status_code == 400
    assert edx.control("catalogs/1", unrenderable=["NUSx+unknown"]).status_code == 400
    assert edx.control("catalogs/99", remove=[]).status_code == 400
    assert edx.control("catalogs").status_code == 404


def test_initial_state_is_restored_when_the_knobs_are_deleted(edx: Caller) -> None:
    before = edx.get().json()
    edx.control("catalogs/1", swap=2, max_limit=3, unrenderable=["NUSx+5x"], viewers=["nobody"])
    rules = [{"path": "/courses/", "action": "throttle"}]
    turned = edx.control("knobs", rules=rules, latency_s=0.01, requests_per_hour=1, client_id="other").json()
    assert turned["rules"] == [{"path": "/courses/", "action": "throttle", "fired": 0}]
    assert edx.get().status_code == 429
    cleared = edx.session.delete(f"{edx.sandbox.url}sandbox/knobs", timeout=5).json()
    assert cleared == {
        "latency_s": 0,
        "expires_in": 180,
        "token_valid_s": None,
        "requests_per_hour": None,
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "rules": [],
    }
    assert edx.session.get(f"{edx.sandbox.url}sandbox/knobs", timeout=5).json() == cleared
    assert edx.get().json() == before


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.case)
def test_examples_of_the_manual_work_on_the_sample(example: Example) -> None:
    with Sandbox() as sandbox:
        edx = Caller(sandbox)
        with edx.session:
            assert edx.control(example.path, **example.sent).status_code == 200
            for offset in (0, 100):
                with suppress(requests.RequestException):  # some cut the connection
                    edx.get(f"{COURSES}?limit=100&offset={offset}")
        assert all(rule.fired for rule in sandbox.rules)


def test_help_shows_every_knob_action_and_example() -> None:
    command = [sys.executable, "-m", "local.sandbox", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  our own module
    for name in (*KNOBS, *COMMANDS, *CHANGES, *ACTIONS):
        assert f"\n  {name}" in shown
    assert "curl -X DELETE http://127.0.0.1:8400/sandbox/knobs" in shown
    for example in EXAMPLES:
        assert f"  edX {example.case}:\n    curl http://127.0.0.1:8400/sandbox/{example.path} -H" in shown


def test_sandbox_prints_one_line_when_its_port_is_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        ended = subprocess.run(  # noqa: S603  our own module
            [sys.executable, "-m", "local.sandbox", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"The sandbox cannot listen on port {port}: Address already in use. Choose another --port.\n"
    )
