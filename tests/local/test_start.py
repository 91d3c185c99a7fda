"""The start of the local parts, and their messages when they cannot start."""

import socket
import subprocess
import sys
from pathlib import Path

from local.ports import first_free_port
from local.stack import made_up_edx

REPOSITORY = Path(__file__).parents[2]


def test_message_is_one_sentence_when_python_lacks_the_packages() -> None:
    for module in ("local.stack", "local.host", "local.sandbox", "local.azurite"):
        ended = subprocess.run(  # noqa: S603  our own module
            [sys.executable, "-S", "-m", module],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith(
            "This needs Python 3.11 or newer with the packages of requirements-dev.txt"
        )
        assert ended.stderr.count("\n") == 1


def test_a_throttling_does_not_apply_to_the_next_sandbox_because_its_client_id_is_new() -> None:
    with made_up_edx() as first, made_up_edx() as second:
        assert first.settings()["EDX_CLIENT_ID"] != second.settings()["EDX_CLIENT_ID"]
        assert first.settings()["EDX_CLIENT_ID"].startswith("sandbox-")


def test_the_next_port_is_used_when_the_preferred_one_is_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert first_free_port(port) > port
