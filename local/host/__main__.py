"""Serve the functions of the current directory without Core Tools: `python -m local.host`."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from local.host.host import Host
from shared.errors import ConfigurationError
from shared.settings import with_settings_file

_log = logging.getLogger("local.host")

_LEVELS = {"Trace": "DEBUG", "Information": "INFO", "None": "CRITICAL"}  # where Python has another word


def _log_to_stdout(directory: Path) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    configuration = json.loads((directory / "host.json").read_text("utf-8"))
    for name, level in configuration.get("logging", {}).get("logLevel", {}).items():
        logger = logging.getLogger(None if name == "default" else name)
        logger.setLevel(_LEVELS.get(level, level.upper()))


def main() -> None:
    """Serve the current directory until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.host", description="Serve ./function_app.py.")
    parser.add_argument("--port", type=int, default=7071, help="0 takes a free one")
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("local.settings.json"),
        help="gives what the environment does not set; nothing when there is no such file",
    )
    arguments = parser.parse_args()
    directory = Path.cwd()
    try:
        os.environ.update(with_settings_file(arguments.settings))
    except ConfigurationError as error:
        sys.exit(error.message)
    _log_to_stdout(directory)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Host(directory, arguments.port) as host:
        for function in host.functions.values():
            _log.info("  %s", function.description)
        _log.info("Listening on %s", host.url)
        stopped.wait()
    # A thread that is still in a function would keep the process for as long as that takes.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
