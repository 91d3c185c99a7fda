"""`make sync` and `make start` as processes, with all their child processes."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from local.azurite import Azurite
from local.child import Child

REPOSITORY = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}
COUNTS = re.compile(r"^✓ ([12]) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+ *$", re.MULTILINE)


@contextmanager
def stack(
    command: str,
    data: Path,
    settings: dict[str, str] | None = None,
    path: str = "",
    host: dict[str, str] | None = None,
) -> Iterator[Child]:
    """Run `python -m local.stack` with its own settings, independent of this machine's."""
    file = data / "settings.json"
    if settings or host:
        file.write_text(json.dumps({"IsEncrypted": False, "Values": settings or {}, "Host": host or {}}))
    child = Child(
        [sys.executable, "-m", "local.stack", command, "--data", str(data), "--settings", str(file)],
        environment={"PATH": f"{path}/usr/bin:/bin", "COLUMNS": "80"},
        directory=REPOSITORY,
    )
    try:
        yield child
    finally:
        child.stop()


def run(command: str, data: Path, settings: dict[str, str] | None = None) -> tuple[int, str]:
    with stack(command, data, settings) as child:
        code = child.wait(120)
    return code, "\n".join(child.lines)


def descendants(pid: int) -> set[int]:
    table = subprocess.run(
        ["/bin/ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = [(int(child), int(parent)) for child, parent in map(str.split, table.splitlines())]
    found = {pid}
    while more := {child for child, parent in parents if parent in found} - found:
        found |= more
    return found


def left_running(pids: set[int]) -> set[int]:
    """Return the processes that still run after ten seconds, so that starting ones have time to end."""
    deadline_s = time.monotonic() + 10
    while True:
        table = subprocess.run(
            ["/bin/ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True
        ).stdout
        running = {int(pid) for pid, state in map(str.split, table.splitlines()) if not state.startswith("Z")}
        if not pids & running or time.monotonic() > deadline_s:
            return pids & running
        time.sleep(0.1)


def test_a_second_sync_writes_nothing_when_edx_is_unchanged(tmp_path: Path) -> None:
    first_code, first = run("sync", tmp_path)
    began_s = time.monotonic()
    second_code, second = run("sync", tmp_path)

    assert (first_code, second_code) == (0, 0)
    assert "Sandbox run" in first
    assert "course-v1:NUSx+REJECTx+BADDATE', start: 'next Tuesday' is not a date" in first
    counts_of_first, counts_of_second = COUNTS.findall(first), COUNTS.findall(second)
    for counts in (counts_of_first, counts_of_second):
        assert [catalog for catalog, *_ in counts] == ["1", "2"]
    for _, courses, runs, created, changed, unchanged, withdrawn, _ in counts_of_first:
        assert int(courses) >= 30
        assert (created, changed, unchanged, withdrawn) == (runs, "0", "0", "0")
    for _, _, runs, created, changed, unchanged, withdrawn, _ in counts_of_second:
        assert (created, changed, unchanged, withdrawn) == ("0", "0", runs, "0")
    assert re.search(r"First of the \d{3} course runs answered\s+course run", second)
    assert time.monotonic() - began_s < 60


def test_the_exit_code_is_1_when_the_sync_fails(tmp_path: Path) -> None:
    settings = {"EDX_API_URL": "http://127.0.0.1:8400/catalog/v1/", "EDX_CATALOG_IDS": "1,987"}
    code, output = run("sync", tmp_path, settings)

    assert code == 1
    assert "✗ Fire the timer" in output
    assert re.search(r"Failed: .*987", output)
    assert "First of the" not in output


def test_sync_says_so_and_makes_no_http_call_when_it_uses_the_real_edx(
    tmp_path: Path, azurite: Azurite, tables_prefix: str
) -> None:
    settings = {
        "EDX_API_URL": "https://edx.invalid/catalog/v1/",
        "EDX_TOKEN_URL": "https://edx.invalid/token",
        "EDX_CLIENT_ID": "client",
        "EDX_CLIENT_SECRET": "secret-of-the-real-edx",
        "EDX_CATALOG_IDS": "7",
        "TABLES_CONNECTION_STRING": azurite.connection_string,
        "TABLES_PREFIX": tables_prefix,
    }
    code, output = run("sync", tmp_path, settings)

    assert code == 1
    assert "Real run" in output
    assert "✗ 7 " in output  # the failed sync has left its report
    assert "GET /ExternalLinks" not in output
    assert "secret-of-the-real-edx" not in output


def test_the_sandbox_is_used_and_the_setting_is_named_when_a_setting_is_misspelt(tmp_path: Path) -> None:
    code, output = run("sync", tmp_path, {"EDX_API_ULR": "https://edx.invalid/", "EDX_CLIENT_ID": "client"})

    assert code == 0
    assert output.startswith(
        "Warning: EDX_API_ULR is not a setting; did you mean EDX_API_URL?\n"
        "Correct or remove unknown settings to run on the real edX.\nSandbox run"
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_nothing_is_left_running_when_a_sync_is_interrupted(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with stack("sync", tmp_path) as child:
        child.wait_for("Start the edX sandbox", 60)
        started = descendants(child.pid)
        child.send_signal(number)
        assert child.wait(15) == code

    assert len(started) > 3  # its watcher, the driver, and at least Azurite with its watcher
    assert left_running(started) == set()


def test_nothing_is_left_running_when_the_parent_process_is_killed(tmp_path: Path) -> None:
    with stack("start", tmp_path) as child:
        child.wait_for("Ctrl-C stops everything", 60)
        started = descendants(child.pid)
        child.kill()

    assert left_running(started) == set()


def asked_as_printed(child: Child) -> list[dict[str, object]]:
    """Send the request of the printed curl command."""
    curl, shown, *arguments, url = shlex.split(child.wait_for("^curl .*", 90)[0])
    headers = dict(header.split(": ", 1) for _, header in zip(arguments[::2], arguments[1::2], strict=True))
    assert (curl, shown, set(arguments[::2])) == ("curl", "-i", {"-H"})
    answer = requests.get(url, headers=headers, timeout=60)
    assert answer.status_code == 200
    return list(answer.json())


def test_the_printed_commands_work_when_the_stack_is_running(tmp_path: Path) -> None:
    with stack("start", tmp_path) as child:
        assert len(asked_as_printed(child)) > 200
        operate = child.wait_for(r"^\(cd .* -m shared check\)$", 10)[0]
        checked = subprocess.run(  # noqa: S603 - as printed
            ["/bin/sh", "-c", operate], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        misbehave = shlex.split(child.wait_for("^curl .*/sandbox/knobs -H ", 10).string)
        throttled = requests.post(misbehave[1], data=misbehave[-1], headers=JSON, timeout=10)
        assert throttled.json()["rules"] == [{"path": "/courses/", "action": "throttle", "fired": 0}]
        assert requests.delete(misbehave[1], timeout=10).json()["rules"] == []
        child.send_signal(signal.SIGINT)
        assert child.wait(15) == 130


def test_core_tools_are_used_when_they_are_on_the_path(tmp_path: Path) -> None:
    # Core Tools cannot be installed everywhere; this checks how they are called and with which settings.
    func = tmp_path / "func"
    func.write_text(
        "#!/bin/sh\n"
        'echo "called with $* on $AzureWebJobsStorage" >&2\n'
        f'exec {shlex.quote(sys.executable)} -m local.host --port "$3" --settings /dev/null\n'
    )
    func.chmod(0o755)

    with stack("start", tmp_path, path=f"{tmp_path}:", host={"CORS": "https://a.example"}) as child:
        how = r"called with start --port \d+ --cors https://a.example on .*BlobEndpoint=.*QueueEndpoint="
        called = child.wait_for(how, 90)
        assert "TableEndpoint=" in called.string
        assert len(asked_as_printed(child)) > 200
