"""The operator's command line: `python -m shared --help`. function_app.py does not import it."""

import sys

from shared.cli.app import app
from shared.cli.console import flush_streams, prepare_streams, say
from shared.cli.options import FAILED, MISCONFIGURED
from shared.errors import ConfigurationError, ConnectorError


def main() -> None:
    """Run a command; print a ConnectorError as one sentence and set the exit code."""
    prepare_streams()
    try:
        app(prog_name="python -m shared")
    except ConnectorError as error:
        say(f"Error: {error.message}", "red", is_error=True)
        sys.exit(MISCONFIGURED if isinstance(error, ConfigurationError) else FAILED)
    finally:
        flush_streams()


if __name__ == "__main__":
    main()
