"""Files that only this agent may read, and the folders they lie in."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from certctl.connectors.files.disk import sync_folders, write_new
from certctl.domain.errors import Unsafe

TEMPORARY = ".tmp-"


def own_folder(path: Path, setting: str, *, mode: int) -> Path:
    """`path`, made with `mode` if it is not there; an existing folder is never changed.

    Raises:
        Unsafe: naming `setting`, when it cannot be made or others could put files into it.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise Unsafe(f"{setting}: cannot make {path}: {error.strerror}") from error
    if found.st_uid != os.geteuid():
        raise Unsafe(f"{setting}: {path} belongs to another user than the agent's")
    if found.st_mode & 0o022:
        raise Unsafe(f"{setting}: others may write to {path}; run: chmod go-w {path}")
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unsafe(f"{setting}: the agent cannot write to {path}")
    return path


def stage_private(path: Path, content: bytes) -> Path:
    """A durable file of mode 0600 beside `path`, under a temporary name."""
    staged = path.with_name(f"{TEMPORARY}{path.name}.{secrets.token_hex(4)}")
    write_new(staged, content, mode=0o600)
    return staged


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` atomically and durably, mode 0600."""
    stage_private(path, content).replace(path)
    sync_folders([path])
