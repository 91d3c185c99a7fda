"""The bindings that the host reads, which need no settings, network or disk."""

import json
import subprocess
import sys
from pathlib import Path

from tests.worker.harness import APP_DIRECTORY, FunctionsWorker

# An audit hook sees every connection, name look-up and write.
IMPORT_WITH_NOTHING = """
import os, sys

def refuse(event, arguments):
    writes = event == "open" and arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in {"os.mkdir", "os.rename", "socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        raise AssertionError(f"{event} {arguments}")

sys.addaudithook(refuse)
import function_app
print(len(function_app.app.get_functions()))
"""


def test_bindings_are_indexed_when_no_setting_exists(tmp_path: Path) -> None:
    with FunctionsWorker(APP_DIRECTORY, {}, tmp_path / "log.txt") as worker:
        functions = worker.functions
    http_output = {"direction": "OUT", "type": "http", "name": "$return"}
    assert functions == {
        "course_runs": [
            {
                "direction": "IN",
                "type": "httpTrigger",
                "name": "req",
                "methods": ["GET"],
                "authLevel": "FUNCTION",
                "route": "ExternalLinks/edXCourseruns",
            },
            http_output,
        ],
        "course_run_changes": [
            {
                "direction": "IN",
                "type": "httpTrigger",
                "name": "req",
                "methods": ["GET"],
                "authLevel": "FUNCTION",
                "route": "ExternalLinks/edXCourseruns/changes",
            },
            http_output,
        ],
        "health": [
            {
                "direction": "IN",
                "type": "httpTrigger",
                "name": "req",
                "methods": ["GET"],
                "authLevel": "ANONYMOUS",
                "route": "health",
            },
            http_output,
        ],
        "sync_course_runs": [
            {
                "direction": "IN",
                "type": "timerTrigger",
                "name": "timer",
                "schedule": "%SYNC_SCHEDULE%",
                "useMonitor": True,
                "runOnStartup": False,
            }
        ],
    }


def test_host_adds_no_prefix_to_routes() -> None:
    host = json.loads((APP_DIRECTORY / "host.json").read_text())
    assert host["extensions"]["http"]["routePrefix"] == ""


def test_import_succeeds_when_settings_network_and_disk_are_missing() -> None:
    imported = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-B", "-c", IMPORT_WITH_NOTHING],
        cwd=APP_DIRECTORY,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (imported.returncode, imported.stdout, imported.stderr) == (0, "4\n", "")
