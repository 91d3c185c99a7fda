"""Loopback sockets with faults that a normal server does not have."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def unaccepting() -> Iterator[int]:
    """Open a port whose connection queue is full, so that the kernel accepts no further one."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        yield port
        for each in waiting:
            each.close()
