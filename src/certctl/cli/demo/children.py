"""The processes that the demonstration starts, and that end with it, whatever happens.

Each runs in a session of its own, so that Ctrl-C reaches the demonstration alone and the children
are ended in order: the last one started first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from certctl.domain.errors import Refused, Unavailable

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KEPT_OF_LOG: Final = 65536


@dataclass(frozen=True)
class Child:
    """A running process; `log_start` is where its part of the log begins."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    grace: float

    def last_words(self) -> str:
        """The last line it logged, which is the reason when a start is refused."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self.log_start, size - KEPT_OF_LOG))
            lines = log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        with suppress(ValueError, KeyError, TypeError):
            last = str(json.loads(last)["event"])
        reason = last.removeprefix("certctl: ").removeprefix(f"certctl {self.name}: ")
        return reason or f"without a word, status {self.process.returncode}"


@dataclass
class Children:
    """A context: inside it SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; at its end every
    child is ended, and signals no longer disturb."""

    _all: list[Child] = field(default_factory=list)
    _starting: bool = False
    _told_to_stop: bool = False
    _before: dict[signal.Signals, Any] = field(default_factory=dict)

    def __enter__(self) -> Children:
        for number in STOPS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._told_to_stop = True
        for child in reversed(self._all):
            _end(child)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        keep_output: bool = True,
        grace: float = 15.0,
    ) -> Child:
        """Start a process whose errors, and output if it is to be kept, go to `log` (0600)."""
        self._starting = True
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as target:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=target if keep_output else subprocess.DEVNULL,
                    stderr=target,
                    env=dict(environment),
                    start_new_session=True,
                )
                child = Child(name, process, log, target.tell(), grace)
                self._all.append(child)
        except OSError as error:
            raise Unavailable(f"{name}: cannot run {argv[0]} ({error.strerror})") from error
        finally:
            self._starting = False
        if self._told_to_stop:
            raise KeyboardInterrupt
        return child

    def check(self) -> None:
        """Raises Refused with the reason when one has ended although none should."""
        for child in self._all:
            if child.process.poll() is not None:
                raise Refused(f"{child.name} ended: {child.last_words()}")

    def wait(self) -> None:
        """Stay until a signal comes or a child ends, which is an error."""
        while True:
            self.check()
            time.sleep(0.5)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Once only, and not between the start of a child and its place in the list."""
        if self._told_to_stop:
            return
        self._told_to_stop = True
        if not self._starting:
            raise KeyboardInterrupt


def _end(child: Child) -> None:
    """Ask; after the grace, kill it and what it started in its session."""
    if child.process.poll() is None:
        child.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(child.grace)
            return
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
