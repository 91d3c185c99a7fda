"""The whole connector on one machine: `python -m local.stack sync` and `start`, or `make sync`, `make start`.

`sync` does the main job once and shows what it did; `start` keeps everything running. Both use the edX
sandbox, Azurite and a functions host; only `sync`, with settings that name the real edX, uses that instead.
"""

import argparse
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from rich.markup import escape

from local.azurite import Azurite, ensure_installed
from local.child import Child, ChildFailed
from local.host.process import FunctionFailed, HostProcess
from local.sandbox import Sandbox
from local.sandbox.content import sample_catalogs
from local.sandbox.tokens import ROLE
from local.show import console, show_reports, show_runs, step
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError
from shared.setting_values import is_loopback
from shared.settings import connector_settings
from shared.settings_file import with_settings_file
from shared.storage.tables import Tables, open_tables

_REPOSITORY = Path(__file__).parents[1]
_EXAMPLE = _REPOSITORY / "local.settings.example.json"
_SUBSCRIPTION_KEY = "local-subscription-key"
_ROUTE = "/ExternalLinks/edXCourseruns"
_TIMER = "sync_course_runs"
_NEVER = {"SYNC_SCHEDULE": "0 0 0 1 1 *"}  # once a year: during `sync` the timer fires when we say so
_START_TIMEOUT_S = 120
_TOKEN_LIFETIME_S = 12 * 3600


class StackFailed(Exception):
    """The main job did not succeed; the message says why."""


def main() -> None:
    """Run a command; the exit code is 0 only when all of it succeeded."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description="Run the whole connector.")
    parser.add_argument("command", choices=("sync", "start"))
    parser.add_argument(
        "--settings",
        type=Path,
        default=_REPOSITORY / "local.settings.json",
        help="gives what the environment does not set",
    )
    parser.add_argument(
        "--data", type=Path, default=_REPOSITORY / ".azurite", help="where Azurite keeps its data"
    )
    arguments = parser.parse_args()
    # Like Ctrl-C: what we started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        settings = with_settings_file(arguments.settings)
        # Data apart, so that both can run at once.
        if arguments.command == "start":
            start(settings, arguments.data / "start")
        elif names_real_edx(settings):
            sync_real(settings)
        else:
            sync_sandbox(settings, arguments.data / "sync")
    except (StackFailed, FunctionFailed, ChildFailed, ConnectorError, requests.RequestException) as error:
        console.print(f"[bold red]Failed:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Interrupted. All that was started has been stopped.")
        sys.exit(128 + signal.SIGINT)


def names_real_edx(settings: Mapping[str, str]) -> bool:
    """Tell whether settings mean the real edX; when they say nothing about edX, they do not."""
    url = settings.get("EDX_API_URL") or ("https://api.edx.org" if settings.get("EDX_CLIENT_ID") else "")
    return bool(url) and not is_loopback(url)


def sync_real(settings: Mapping[str, str]) -> None:
    """Run the timer's sync of the real edX into the storage that the settings name."""
    console.print("[bold]Real run:[/] the edX and the storage of your settings. No HTTP call is made.")
    began = datetime.now(UTC)
    tables = _tables(settings)
    with ExitStack() as stack:
        with step("Start the functions"):
            host = stack.enter_context(HostProcess({**settings, **_NEVER}))
        failure = _fire(host)
    reports = _report(tables, began, failure)
    for catalog_id in sorted({report.catalog_id for report in reports}):
        stored = (run.mapped for run in tables.catalogs.runs(catalog_id) if not run.withdrawn_at)
        runs = (mapped.run.model_dump(by_alias=True, exclude_none=True) for mapped in stored if mapped)
        show_runs(runs, f"First course runs stored of catalog {catalog_id}")


def sync_sandbox(settings: Mapping[str, str], data: Path) -> None:
    """Do the main job on the sandbox edX: sync by the timer, then ask for the catalogue as an admin."""
    console.print("[bold]Sandbox run:[/] a made-up edX and Azurite, both on this machine.")
    began = datetime.now(UTC)
    ensure_installed()
    with ExitStack() as stack:
        with step("Start Azurite"):
            azurite = stack.enter_context(Azurite(location=data))
        with step("Start the edX sandbox"):
            sandbox = stack.enter_context(_sandbox())
        with step("Start the functions"):
            settings = {**_on_sandbox(settings, sandbox, azurite), **_NEVER}
            host = stack.enter_context(HostProcess(settings))
        failure = _fire(host, lambda: f"{len(sandbox.requests)} requests to the sandbox")
        _report(_tables(settings), began, failure)
        with step(f"GET {_ROUTE} as an administrator"):
            runs = _call_as_admin(host.url, sandbox.mint())
    show_runs(runs, f"First of the {len(runs)} course runs answered")


def start(settings: Mapping[str, str], data: Path) -> None:
    """Keep the functions running on the sandbox edX until Ctrl-C."""
    console.print("[bold]Sandbox run:[/] a made-up edX and Azurite, both on this machine.")
    core_tools = shutil.which("func")
    port = first_free_port(7071)
    ensure_installed()
    with ExitStack() as stack:
        with step("Start Azurite"):
            azurite = stack.enter_context(
                Azurite(first_free_port(10002), data, everything=core_tools is not None)
            )
        with step("Start the edX sandbox"):
            sandbox = stack.enter_context(_sandbox(first_free_port(8400)))
        settings = _on_sandbox(settings, sandbox, azurite)
        with step(f"Start the functions with {core_tools or 'the host stand-in'}"):
            if core_tools:
                host = _core_tools(core_tools, port, settings, azurite)
            else:
                host = HostProcess(settings, port=port, echo=print).child
            stack.callback(host.stop)
        print(
            f"\nAsk for the catalogue as an administrator:\n\n"
            f"curl -H 'Ocp-Apim-Subscription-Key: {_SUBSCRIPTION_KEY}' "
            f"-H 'Authorization: Bearer {sandbox.mint(lifetime_s=_TOKEN_LIFETIME_S)}' "
            f"http://127.0.0.1:{port}{_ROUTE}\n\nCtrl-C stops everything.\n",
            flush=True,
        )
        raise StackFailed(f"The functions host ended by itself with exit code {host.wait()}")


def first_free_port(preferred: int) -> int:
    """Return a loopback port, or the next one above it on which nothing listens."""
    for port in range(preferred, preferred + 100):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise StackFailed(f"No port from {preferred} to {preferred + 99} is free")


def _sandbox(port: int = 0) -> Sandbox:
    # The sample hangs on the time; of one day it is the same, so that a second sync finds nothing changed.
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Sandbox(sample_catalogs(midnight), port=port)


def _on_sandbox(settings: Mapping[str, str], sandbox: Sandbox, azurite: Azurite) -> dict[str, str]:
    """Point settings at our own servers; those that mean another edX give way to the example's."""
    chosen = settings if is_loopback(settings.get("EDX_API_URL", "")) else {}
    return {
        **with_settings_file(_EXAMPLE, {}),
        **chosen,
        **sandbox.settings(),
        "TABLES_CONNECTION_STRING": azurite.connection_string,
        "TABLES_ENDPOINT": "",
        "APIM_SUBSCRIPTION_KEYS": _SUBSCRIPTION_KEY,
        "ADMIN_ROLE_CLAIM": "roles",
        "ADMIN_ROLE": ROLE,
    }


def _core_tools(func: str, port: int, settings: Mapping[str, str], azurite: Azurite) -> Child:
    """Run `func start`; what its environment sets wins over local.settings.json there too."""
    python = Path(sys.executable).parent
    environment = {
        **os.environ,
        **settings,
        "AzureWebJobsStorage": azurite.connection_string,
        "VIRTUAL_ENV": str(python.parent),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
    }
    host = Child(
        [func, "start", "--port", str(port)], environment=environment, directory=_REPOSITORY, echo=print
    )
    host.wait_until_ready(r"course_runs: \[GET\]", _START_TIMEOUT_S)
    return host


def _fire(host: HostProcess, detail: Callable[[], str] = str) -> FunctionFailed | None:
    """Fire the timer and wait for its end; a failure is returned, for the reports come first."""
    try:
        with step("Fire the timer, which syncs with edX", detail):
            host.fire(_TIMER)
    except FunctionFailed as failure:
        return failure
    return None


def _tables(settings: Mapping[str, str]) -> Tables:
    ours = connector_settings(settings)
    return open_tables(ours.storage, ours.edx.client_id)


def _report(tables: Tables, began: datetime, failure: FunctionFailed | None) -> list[SyncReport]:
    reports = [report for report in tables.reports.newest() if report.ended >= began]
    reports.sort(key=lambda report: report.catalog_id)
    if reports:
        show_reports(reports)
    if failure:
        raise failure
    if not reports:
        console.print("Another process was syncing; it has ended well and has the report.")
    return reports


def _call_as_admin(url: str, token: str) -> list[dict[str, Any]]:
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would replace the token
        answer = session.get(
            url + _ROUTE,
            headers={
                "Ocp-Apim-Subscription-Key": _SUBSCRIPTION_KEY,
                "Authorization": f"Bearer {token}",
                "Cache-Control": "only-if-cached",  # the timer has synced
            },
            timeout=60,
        )
    if answer.status_code != requests.codes.ok:
        raise StackFailed(f"GET {_ROUTE} answered {answer.status_code}: {answer.text}")
    runs: list[dict[str, Any]] = answer.json()
    if not runs:
        raise StackFailed(f"GET {_ROUTE} answered no course runs")
    return runs


if __name__ == "__main__":
    main()
