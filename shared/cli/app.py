"""The commands, and the preparation of each: reads the settings file, prints warnings."""

import os
from pathlib import Path
from typing import Annotated

import typer

from shared.cli import catalogs, changes, check, history, runs, show, status, sync
from shared.cli.console import say
from shared.cli.credits import app as credits_app
from shared.settings import setting_warnings
from shared.settings_file import with_settings_file
from shared.version import __version__

app = typer.Typer(
    help="Operate the LumiNUS edX connector; begin with check. Settings come from the environment and, for "
    "what it does not name, from a local.settings.json in the current folder.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a setting is missing or malformed, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(*, is_wanted: bool) -> None:
    if is_wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def prepare(
    *,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Read local.settings.json, and warn of settings that are probably a mistake."""
    os.environ.update(with_settings_file(Path("local.settings.json")))
    for warning in setting_warnings():
        say(f"Warning: {warning}", "yellow", is_error=True)


app.command()(check.check)
app.command()(status.status)
app.command()(sync.sync)
app.command()(runs.runs)
app.command()(show.show)
app.command()(changes.changes)
app.command()(history.history)
app.command()(catalogs.catalogs)
app.add_typer(credits_app, name="credits")
