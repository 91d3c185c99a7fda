"""Child processes that end when they are stopped, and also when this process is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# The command runs under a small watcher process in its own session, so that a Ctrl-C in the terminal reaches
# only this process, which then stops everything in order. The watcher holds the read end of a pipe: when the
# pipe closes because this process has ended, it ends the command. This works on every POSIX system.
_WATCHER = """
import os, signal, subprocess, sys, threading, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)  # meant for the command, which gets its own copy
command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end_with_parent():
    sys.stdin.read()
    os.killpg(0, signal.SIGINT)
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_parent, daemon=True).start()
os._exit(command.wait() & 0xFF)
"""


class ChildFailed(Exception):
    """A child ended, or timed out, before it printed the expected line; the message has its last output."""


class Child:
    """A running command; its output is collected line by line.

    Args:
        command: what to run.
        environment: the whole environment of the child; ours when None.
        directory: where it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._echo: Callable[[str], None] | None = None
        self._changed = threading.Condition()
        self._finished = False
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-I", "-S", "-c", _WATCHER, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the child's process group, which contains the command and its children."""
        return self._process.pid

    def echo(self, line_to: Callable[[str], None]) -> None:
        """Call a function with each line so far and, from another thread, with each that follows."""
        with self._changed:
            for line in self.lines:
                line_to(line)
            self._echo = line_to

    def wait_for(self, pattern: str, timeout_s: float, start: int = 0) -> re.Match[str]:
        """Return the first match of a regular expression in the output, from line `start` on.

        Raises:
            ChildFailed: the child ended, or `timeout_s` passed, without such a line.
        """
        deadline = time.monotonic() + timeout_s
        position = start
        with self._changed:
            while True:
                for line in self.lines[position:]:
                    if match := re.search(pattern, line):
                        return match
                position = len(self.lines)
                remaining_s = deadline - time.monotonic()
                if self._finished or remaining_s <= 0:
                    limit = "before it ended" if self._finished else f"within {timeout_s:g} s"
                    last_lines = "\n".join(self.lines[-20:])
                    raise ChildFailed(f"The process did not print {pattern!r} {limit}\n{last_lines}")
                self._changed.wait(remaining_s)

    def wait_until_ready(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait for the line that says that the child is ready; kill the child if the line is not printed."""
        try:
            return self.wait_for(pattern, timeout_s)
        except BaseException:
            self.kill()
            raise

    def send_signal(self, number: int) -> None:
        """Send a signal to the command and its children; do nothing when it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end and return the exit code; raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 10) -> None:
        """End the child with a signal that lets it finish cleanly, or by force after `timeout_s`."""
        self.send_signal(number)
        try:
            self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
        self._close()

    def kill(self) -> None:
        """Kill the child, to simulate a crash."""
        self.send_signal(signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def _read(self) -> None:
        if self._process.stdout is None:
            raise AssertionError
        for line in self._process.stdout:
            text = line.rstrip("\n")
            with self._changed:
                self.lines.append(text)
                self._changed.notify_all()
                if self._echo:
                    self._echo(text)
        with self._changed:
            self._finished = True
            self._changed.notify_all()
