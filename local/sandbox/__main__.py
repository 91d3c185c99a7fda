"""Runs the edX sandbox in its own process: `python -m local.sandbox`."""

import argparse
import sys
from contextlib import suppress
from threading import Event

from local.sandbox.large import large_catalog
from local.sandbox.manual import HARMLESS, manual
from local.sandbox.sandbox import Sandbox


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m local.sandbox",
        description="Run the edX sandbox. It prints the settings that point the connector at it.",
        epilog=manual("http://127.0.0.1:8400/"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0, help="minimum time of every request")
    parser.add_argument("--courses", type=int, help="serve this many generated courses instead of the sample")
    parser.add_argument("--client-id", default="sandbox-client", help="the one client that gets tokens")
    options = parser.parse_args()
    large = options.courses and [large_catalog(options.courses)]
    sandbox = Sandbox(
        large, port=options.port, latency_s=options.latency_ms / 1000, client_id=options.client_id
    )
    try:
        with sandbox:
            print(f"edX sandbox at {sandbox.url}")
            for name, value in sandbox.settings().items():
                print(f"{name}={value}")
            print(f"An administrator's token: curl -X POST {sandbox.url}mint")
            print(f"Knobs (--help lists all): {HARMLESS.curl(sandbox.url)}", flush=True)
            with suppress(KeyboardInterrupt):
                Event().wait()
    except OSError as error:
        sys.exit(
            f"The sandbox cannot listen on port {options.port}: {error.strerror}. Choose another --port."
        )


if __name__ == "__main__":
    main()
