"""The whole connector on one machine: `python -m local.stack sync` and `start`, or `make sync`, `make start`.

`sync` runs one sync and one request and shows the results; `start` keeps everything running. Both use the edX
sandbox, Azurite and a functions host; `sync` uses the real edX instead if the settings name it.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import requests
from rich.markup import escape

from local.azurite import Azurite, InstallFailed, ensure_installed, own_folder
from local.child import Child, ChildFailed
from local.host.cors import cors_options
from local.host.process import FunctionFailed, HostProcess
from local.ports import NoFreePort, first_free_port
from local.sandbox import Sandbox
from local.sandbox.content import sample_catalogs
from local.show import console, show_reports, show_runs, step
from local.target import SUBSCRIPTION_KEY, is_real_run, names_real_edx, on_sandbox
from local.welcome import welcome, write_settings
from shared.domain.sync_report import SyncReport
from shared.errors import ConnectorError
from shared.settings import connector_settings, unknown_settings
from shared.settings_file import with_settings_file
from shared.storage.tables import Tables, open_tables

_REPOSITORY = Path(__file__).parents[1]
_ROUTE = "/ExternalLinks/edXCourseruns"
_TIMER = "sync_course_runs"
_NEVER = {"SYNC_SCHEDULE": "0 0 0 1 1 *"}  # once a year: `sync` fires the timer itself
_START_TIMEOUT_S = 120
_TOKEN_LIFETIME_S = 12 * 3600


class StackFailed(Exception):
    """The sync or the request failed; the message says why."""


_FAILURES = (
    *(StackFailed, FunctionFailed, ChildFailed, InstallFailed, NoFreePort, ConnectorError),
    requests.RequestException,
)


def main() -> None:
    """Run a command; the exit code is 0 only when all of it succeeded."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description="Run the whole connector.")
    parser.add_argument("command", choices=("sync", "start"))
    parser.add_argument(
        "--settings",
        type=Path,
        default=_REPOSITORY / "local.settings.json",
        help="file with the settings that the environment does not set",
    )
    parser.add_argument(
        "--data", type=Path, default=_REPOSITORY / ".azurite", help="where Azurite keeps its data"
    )
    arguments = parser.parse_args()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console without UTF-8 has no ✓
    # Like Ctrl-C, so that all child processes are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        settings = with_settings_file(arguments.settings)
        _warn_of(unknown_settings(settings), settings)
        # Separate data, so that both can run at once.
        if arguments.command == "start":
            start(settings, arguments.data / "start", cors_options(arguments.settings))
        elif is_real_run(settings):
            sync_real(settings)
        else:
            sync_sandbox(settings, arguments.data / "sync")
    except _FAILURES as error:
        console.print(f"[bold red]Failed:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Interrupted. Everything that was started has been stopped.")
        sys.exit(128 + signal.SIGINT)


def _warn_of(unknown: Sequence[str], settings: Mapping[str, str]) -> None:
    for sentence in unknown:
        console.print(f"[yellow]Warning:[/] {escape(sentence)}", soft_wrap=True)
    if unknown and names_real_edx(settings):
        console.print("Correct or remove unknown settings to run on the real edX.")


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
    """Sync the sandbox edX by the timer, then request the catalogue as an administrator."""
    console.print("[bold]Sandbox run:[/] a simulated edX and Azurite, both on this machine.")
    began = datetime.now(UTC)
    ensure_installed()
    with ExitStack() as stack:
        with step("Start Azurite"):
            azurite = stack.enter_context(Azurite(location=stack.enter_context(own_folder(data))))
        with step("Start the edX sandbox"):
            sandbox = stack.enter_context(made_up_edx())
        with step("Start the functions"):
            settings = {**on_sandbox(settings, sandbox, azurite), **_NEVER}
            host = stack.enter_context(HostProcess(settings))
        failure = _fire(host, lambda: f"{len(sandbox.requests)} requests to the sandbox")
        _report(_tables(settings), began, failure)
        with step(f"GET {_ROUTE} as an administrator"):
            runs = _call_as_admin(host.url, sandbox.mint())
    show_runs(runs, f"First of the {len(runs)} course runs answered")


def start(settings: Mapping[str, str], data: Path, cors: Sequence[str]) -> None:
    """Keep the functions running on the sandbox edX until Ctrl-C.

    Args:
        settings: of the connector.
        data: the folder for Azurite, when no other process uses it.
        cors: options of `func start` and `python -m local.host` for cross-origin requests.
    """
    console.print("[bold]Sandbox run:[/] a simulated edX and Azurite, both on this machine.")
    core_tools = shutil.which("func")
    port = first_free_port(7071)
    ensure_installed()
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder(data))
        with step("Start Azurite"):
            azurite = stack.enter_context(
                Azurite(first_free_port(10002), folder, everything=core_tools is not None)
            )
        with step("Start the edX sandbox"):
            sandbox = stack.enter_context(made_up_edx(first_free_port(8400)))
        settings = on_sandbox(settings, sandbox, azurite)
        with step(f"Start the functions with {core_tools or 'the replacement host'}"):
            if core_tools:
                host = _core_tools(core_tools, port, settings, azurite, cors)
            else:
                host = HostProcess(settings, port=port, cors=cors).child
            stack.callback(host.stop)
        host.echo(print)  # after the step, because its line is updated all the time
        write_settings(folder / "settings.sh", settings)
        headers = _admin_headers(sandbox.mint(lifetime_s=_TOKEN_LIFETIME_S))
        url = f"http://127.0.0.1:{port}{_ROUTE}"
        print(welcome(url, headers, sandbox.url, folder / "settings.sh"), flush=True)
        raise StackFailed(f"The functions host ended unexpectedly with exit code {host.wait()}")


def made_up_edx(port: int = 0) -> Sandbox:
    """Return a new sandbox with the sample, for one run."""
    # The sample depends on the date only, so that a second sync on the same day finds no change.
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # A new client id, so that the throttling of an earlier sandbox does not apply to this one.
    return Sandbox(sample_catalogs(midnight), port=port, client_id=f"sandbox-{secrets.token_hex(4)}")


def _core_tools(
    func: str, port: int, settings: Mapping[str, str], azurite: Azurite, cors: Sequence[str]
) -> Child:
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
        [func, "start", "--port", str(port), *cors],
        environment=environment,
        directory=_REPOSITORY,
    )
    host.wait_until_ready(r"course_runs: \[GET\]", _START_TIMEOUT_S)
    return host


def _fire(host: HostProcess, detail: Callable[[], str] = str) -> FunctionFailed | None:
    """Fire the timer and wait for its end; return a failure, so that the reports are shown first."""
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
        console.print("Another process synced; see its report with: python -m shared history")
    return reports


def _admin_headers(token: str) -> dict[str, str]:
    return {"Ocp-Apim-Subscription-Key": SUBSCRIPTION_KEY, "Authorization": f"Bearer {token}"}


def _call_as_admin(url: str, token: str) -> list[dict[str, Any]]:
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would replace the token
        answer = session.get(
            url + _ROUTE,
            headers={**_admin_headers(token), "Cache-Control": "only-if-cached"},  # the timer has synced
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
