"""Run the edX sandbox in a process of its own: `python -m local.sandbox`."""

import argparse
from contextlib import suppress
from threading import Event

from local.sandbox.large import large_catalog
from local.sandbox.server import Sandbox


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.sandbox", description="Run the edX sandbox.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0, help="time that every request takes at least")
    parser.add_argument("--courses", type=int, help="serve this many made-up courses instead of the sample")
    options = parser.parse_args()
    large = options.courses and [large_catalog(options.courses)]
    with Sandbox(large, port=options.port, latency_s=options.latency_ms / 1000) as sandbox:
        print(f"edX sandbox at {sandbox.url}")
        for name, value in sandbox.settings().items():
            print(f"{name}={value}")
        print(f"An administrator's token: curl -X POST {sandbox.url}mint")
        print(
            f"Knobs: curl -H 'Content-Type: application/json' {sandbox.url}sandbox/knobs "
            """-d '{"latency_s": 0.1, "rules": [{"path": "/courses/", "action": "throttle", "times": 1}]}'""",
            flush=True,
        )
        with suppress(KeyboardInterrupt):
            Event().wait()


if __name__ == "__main__":
    main()
