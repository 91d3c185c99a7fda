"""The host in its own process."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from local.child import Child, ChildFailed
from local.host.process import FunctionFailed, HostProcess

REPOSITORY = Path(__file__).parents[3]
NEVER = "0 0 0 1 1 *"


def test_the_host_uses_only_the_given_settings(app_directory: Path) -> None:
    with HostProcess({"SCHEDULE": NEVER}, app_directory) as host:
        assert requests.get(f"{host.url}/Pre/status?code=200", timeout=10).status_code == 200
        host.fire("tick", past_due=True)
        with pytest.raises(FunctionFailed, match=r"^RuntimeError: failed on purpose$"):
            host.fire("failing")
        assert "The 'misconfigured' function is in error: the setting MISSING is missing" in host.log
        said = (
            "The 'never_accepted' function is in error: the schedule '@hourly' is not NCRONTAB: expected five"
        )
        assert said in host.log
        assert "never_due: timerTrigger 0 0 0 30 2 *" in host.log
        began = time.monotonic()

    assert host.child.wait() == 0
    assert time.monotonic() - began < 5


def test_the_host_says_why_when_it_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="FileNotFoundError"):
        HostProcess({}, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_host_ends_when_a_signal_reaches_another_of_its_threads(app_directory: Path) -> None:
    with HostProcess({"SCHEDULE": NEVER}, app_directory) as host:
        pid = int(Path(f"/proc/{host.child.pid}/task/{host.child.pid}/children").read_text())
        thread_ids = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]
        thread_id = next(each for each in thread_ids if each != pid)
        ctypes.CDLL(None).tgkill(pid, thread_id, signal.SIGTERM)
        assert host.child.wait(10) == 0


def test_the_host_ends_when_its_parent_process_is_killed(app_directory: Path) -> None:
    program = (
        "import os, signal; from pathlib import Path; from local.host.process import HostProcess;"
        f"print(HostProcess({{'SCHEDULE': '{NEVER}'}}, Path({str(app_directory)!r})).url, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False
    )
    url = parent.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            requests.get(url, timeout=1)
        except requests.ConnectionError:
            return
        time.sleep(0.1)
    pytest.fail("The host outlived its parent")


def test_the_host_prints_one_line_when_its_port_is_busy(app_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ChildFailed) as failed:
            HostProcess({"SCHEDULE": NEVER}, app_directory, port)

    lines = str(failed.value).splitlines()
    assert lines[-1] == f"Port {port} is in use by another process: choose another one with --port."
    assert "Traceback" not in str(failed.value)


def test_origins_are_allowed_when_the_options_say_so(app_directory: Path) -> None:
    options = ["--cors", "https://a.example", "--cors-credentials"]
    with HostProcess({"SCHEDULE": NEVER}, app_directory, cors=options) as host:
        answer = requests.get(f"{host.url}/Pre/zipped", headers={"Origin": "https://a.example"}, timeout=10)

    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_settings_and_origins_are_read_from_the_settings_file(app_directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"Values": {"SCHEDULE": NEVER}, "Host": {"CORS": "https://a.example"}}))
    child = Child(
        [sys.executable, "-m", "local.host", "--port", "0", "--settings", str(file)],
        environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        directory=app_directory,
    )
    try:
        url = child.wait_until_ready(r"Listening on (\S+)", 60)[1]
        answer = requests.get(f"{url}/Pre/zipped", headers={"Origin": "https://a.example"}, timeout=10)
    finally:
        child.stop()

    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert f"tick: timerTrigger {NEVER}" in "\n".join(child.lines)
