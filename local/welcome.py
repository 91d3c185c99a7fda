"""The text that `make start` prints: commands to paste into another terminal."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from local.sandbox.manual import HARMLESS
from shared.settings import SETTING_NAMES

_REPOSITORY = Path(__file__).parents[1]


def welcome(url: str, headers: Mapping[str, str], sandbox_url: str, settings_file: Path) -> str:
    """Return commands for a request of the catalogue, for the command line and for faults of the sandbox.

    Args:
        url: the URL of the catalogue.
        headers: the request headers of an administrator.
        sandbox_url: the base URL of the sandbox.
        settings_file: a shell file with the settings of this stack.
    """
    options = " ".join(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())
    here, file, python = (shlex.quote(str(path)) for path in (_REPOSITORY, settings_file, sys.executable))
    return f"""
Ask for the catalogue as an administrator:

curl -i {options} {url}

Check the stack with the operator's command line:

(cd {here} && . {file} && {python} -m shared check)

Simulate a fault of edX: here a throttling of five seconds, for whose end the next
sync waits. The second command restores the initial state. All faults:
`python -m local.sandbox --help`.

{HARMLESS.curl(sandbox_url)}
curl -X DELETE {sandbox_url}sandbox/knobs

Ctrl-C stops everything.
"""


def write_settings(file: Path, settings: Mapping[str, str]) -> None:
    """Write the connector's settings as lines for a shell; only this user can read the file."""
    file.touch(mode=0o600)
    ours = [name for name in SETTING_NAMES if name in settings]
    file.write_text("".join(f"export {name}={shlex.quote(settings[name])}\n" for name in ours))
