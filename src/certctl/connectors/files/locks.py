"""One deployment at a time for a file: between threads, and between processes of this host."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from certctl.domain.errors import Unavailable

PAUSE = 0.05

_guard = threading.Lock()
_by_path: dict[Path, threading.Lock] = {}


@contextmanager
def locked(paths: Sequence[Path], wait: float) -> Iterator[None]:
    """Hold all `paths`, and the lock file beside the first of them.

    The lock file stays for ever: deleting it would let two processes hold two locks.

    Raises:
        Unavailable: when another deployment holds one of them for longer than `wait` seconds.
        OSError: when the lock file cannot be made.
    """
    deadline = time.monotonic() + wait
    with ExitStack() as held:
        for path in sorted(set(paths)):
            lock = _lock_of(path)
            if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise _busy(path)
            held.callback(lock.release)
        held.enter_context(_lock_file(paths[0], deadline))
        yield


def _lock_of(path: Path) -> threading.Lock:
    with _guard:
        return _by_path.setdefault(path, threading.Lock())


@contextmanager
def _lock_file(path: Path, deadline: float) -> Iterator[None]:
    name = path.with_name(path.name + ".certctl-lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise _busy(path)
            time.sleep(PAUSE)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(path: Path) -> Unavailable:
    return Unavailable(f"another deployment of this host holds {path}")
