"""One server for one directory: a lock file that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from certctl.domain.errors import Unsafe

NAME = "certctl.lock"


def hold(directory: Path) -> int:
    """Take the lock of `directory`; the returned descriptor holds it until it is closed.

    Raises:
        Unsafe: when another process holds it.
        OSError: when the lock file cannot be written.
    """
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise Unsafe(
            f"Another certctl server (process {holder}) uses {directory}: stop it, or give this "
            "one a directory of its own with CERTCTL_DATA_DIR."
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
