"""Measures how long a new process needs to import a package and, for the app, to give its first answer.

Only the standard library is imported before the measurement starts.
"""

import sys
import time
from importlib import import_module

FLOOR = ("azure.functions", "pydantic", "requests", "azure.data.tables", "jwt")


def main(what: str) -> None:
    began = time.perf_counter()
    if what == "app":
        answer = import_module("bench.app").App().ask()
        assert answer.status_code == 200, answer.get_body()  # noqa: PLR2004 - HTTP's OK
    else:
        for module in FLOOR:
            import_module(module)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(sys.argv[1])
