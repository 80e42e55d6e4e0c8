"""One PostgreSQL process: started as our child or adopted from a server that was killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from certctl.domain.errors import Unavailable
from certctl.store.embedded.binaries import Binaries
from certctl.store.embedded.cluster import ENVIRONMENT
from certctl.store.embedded.place import SOCKET, Place

log = logging.getLogger(__name__)

# Statements are kept out of the log, since they may hold secrets. A file per weekday, begun
# anew each week, keeps the log bounded.
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
# Replaying a long journal after a crash takes minutes, and interrupting it helps nobody.
READY_WITHIN = 900.0
STOP_WITHIN = 30.0
QUIT_WITHIN = 15.0
# Backends of a killed server hold its shared memory until they notice.
MEMORY_HELD = "pre-existing shared memory block"
MEMORY_FREE_WITHIN = 60.0


class MemoryHeld(Exception):
    """The processes of the server before this one have not all ended."""


@dataclass(frozen=True)
class PidFile:
    """What a running server writes into `postmaster.pid`."""

    pid: int
    socket_dir: Path | None
    status: str


class Postmaster:
    """A running server; `child` is None when it was adopted."""

    def __init__(self, pid: int, cluster: Path, *, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._cluster = cluster
        self._child = child

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs and is still the server of this cluster."""
        if self._child is not None:
            return self._child.poll() is None
        return serves(self.pid, self._cluster)

    def stop(self) -> None:
        """End it: sessions are closed at once, then a checkpoint; by force if that takes long."""
        for number, seconds in ((signal.SIGINT, STOP_WITHIN), (signal.SIGQUIT, QUIT_WITHIN)):
            if not self.is_alive:
                return
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return
            if self._ends_within(seconds):
                return
        log.error("PostgreSQL (process %d) did not stop", self.pid)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.is_alive:
                return True
            time.sleep(0.01)
        return False


def launch(
    place: Place, binaries: Binaries, *, socket_dir: Path, given_up: threading.Event
) -> Postmaster:
    """Start a server and return when it takes connections.

    Raises:
        Unavailable: with PostgreSQL's own words when it ends or does not get ready, and when
            `given_up` is set meanwhile.
    """
    deadline = time.monotonic() + MEMORY_FREE_WITHIN
    while True:
        try:
            return _launch_once(place, binaries, socket_dir=socket_dir, given_up=given_up)
        except MemoryHeld as error:
            if given_up.wait(0.1) or time.monotonic() > deadline:
                raise Unavailable(f"PostgreSQL did not start: {error}") from error


def read_pid_file(cluster: Path) -> PidFile | None:
    """The server that says it runs on `cluster`; whether it does is for `serves` to tell."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    lines += [""] * (8 - len(lines))
    return PidFile(pid, Path(lines[4]) if lines[4] else None, lines[7].strip())


def serves(pid: int, cluster: Path) -> bool:
    """Whether `pid` is a PostgreSQL server of `cluster`, not a process that got its number.

    Without /proc only the liveness can be told; the password check at adoption decides there.
    """
    if not Path("/proc/self/cmdline").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if Path(os.fsdecode(words[0])).name != "postgres" or b"-D" not in words[:-1]:
        return False
    directory = os.fsdecode(words[words.index(b"-D") + 1])
    return Path(directory).is_dir() and Path(directory).samefile(cluster)


def _launch_once(
    place: Place, binaries: Binaries, *, socket_dir: Path, given_up: threading.Event
) -> Postmaster:
    for stale in (place.cluster / "postmaster.pid", socket_dir / f"{SOCKET}.lock"):
        _disarm(stale)
    settings = {**SETTINGS, "unix_socket_directories": str(socket_dir)}
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            [
                *(binaries.bin / "postgres", "-D", place.cluster),
                *(part for name in settings for part in ("-c", f"{name}={settings[name]}")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            cwd="/",
            env=ENVIRONMENT,
            # A Ctrl-C at the terminal is for us; we stop the database last.
            start_new_session=True,
            umask=0o077,
            **place.runner.process,
        )
        _wait_until_ready(child, place.cluster, words=words, given_up=given_up)
    return Postmaster(child.pid, place.cluster, child=child)


def _wait_until_ready(
    child: subprocess.Popen[bytes], cluster: Path, *, words: IO[bytes], given_up: threading.Event
) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and not given_up.wait(0.01):
        if child.poll() is not None:
            words.seek(0)
            said = words.read().decode("utf-8", "replace")
            if MEMORY_HELD in said:
                raise MemoryHeld(MEMORY_HELD)
            fatal = [line for line in said.splitlines() if "FATAL" in line]
            reason = fatal[-1] if fatal else f"it ended with code {child.returncode}"
            raise Unavailable(f"PostgreSQL did not start: {reason}; its log is in {cluster}/log.")
        known = read_pid_file(cluster)
        if known and known.pid == child.pid and known.status == "ready":
            return
    Postmaster(child.pid, cluster, child=child).stop()
    raise Unavailable("PostgreSQL did not get ready in time.")


def _disarm(lock: Path) -> None:
    """Let a lock file of a dead server not bar the start when its process number is not free.

    The number may be another process's by now, or a zombie's that nobody collects. PostgreSQL
    takes the number of its parent for stale and still checks the shared memory the file names,
    so the number is replaced and the rest is kept.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "r+b") as file:
        _, _, rest = file.read().partition(b"\n")
        file.seek(0)
        file.write(b"%d\n%s" % (os.getpid(), rest))
        file.truncate()
