"""Serve the functions of the current directory without Core Tools: `python -m local.host`."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from errno import EADDRINUSE
from pathlib import Path

from local.host.cors import Cors, cors_options
from local.host.host import Host
from shared.errors import ConfigurationError
from shared.settings_file import with_settings_file

_log = logging.getLogger("local.host")

_LEVELS = {"Trace": "DEBUG", "Information": "INFO", "None": "CRITICAL"}  # where Python uses another name


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
    parser.add_argument("--cors", metavar="ORIGINS", help="allow these origins, separated by commas, or *")
    parser.add_argument(
        "--cors-credentials",
        action="store_true",
        help="allow these origins to send the browser's cookies and logins",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("local.settings.json"),
        help="file with the settings that the environment does not set, and Host.CORS; may be missing",
    )
    arguments = parser.parse_args()
    try:
        environment = with_settings_file(arguments.settings)
        if not arguments.cors:
            parser.parse_args(cors_options(arguments.settings), arguments)
        cors = Cors(arguments.cors or "", credentials=arguments.cors_credentials)
    except (ConfigurationError, ValueError) as error:
        sys.exit(str(error))
    os.environ.update(environment)
    directory = Path.cwd()
    _log_to_stdout(directory)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        host = Host(directory, arguments.port, cors=cors)
    except OSError as error:
        if error.errno != EADDRINUSE:
            raise
        sys.exit(f"Port {arguments.port} is in use by another process: choose another one with --port.")
    with host:
        for function in host.functions.values():
            _log.info("  %s", function.description)
        _log.info("Listening on %s", host.url)
        # With a timeout: Python calls the handlers in this thread only, and the kernel may give a signal to
        # another thread, which does not wake this one.
        while not stopped.wait(1):
            pass
    # Otherwise a thread that still runs a function would keep the process alive.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
