"""Free loopback ports."""

import socket

HOST = "127.0.0.1"

_TRIED = 100


class NoFreePort(Exception):
    """All ports that were tried are in use."""


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def first_free_port(preferred: int) -> int:
    """Return a loopback port, or the next one above it on which nothing listens.

    Raises:
        NoFreePort: the next hundred are in use.
    """
    for port in range(preferred, preferred + _TRIED):
        try:
            with socket.create_server((HOST, port)):
                return port
        except OSError:
            continue
    raise NoFreePort(f"No port from {preferred} to {preferred + _TRIED - 1} is free")
