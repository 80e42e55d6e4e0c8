"""Durable single steps on the file system: write a new file, fsync a folder, find siblings."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from certctl.domain.errors import Invalid

TEMPORARY = ".certctl-tmp."
BACKUP = ".certctl-bak."
BACKUP_NAME = re.compile(r"\d{19}")


def write_new(path: Path, content: bytes, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Create `path`, which must not exist, and see it safely on the disk.

    It is readable by nobody else until owner and mode are right. `uid` and `gid` of -1 leave the
    owner alone.

    Raises:
        OSError: also when the owner cannot be given; the file is removed again.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _give(file.fileno(), path, uid=uid, gid=gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _give(descriptor: int, path: Path, *, uid: int, gid: int) -> None:
    now = os.fstat(descriptor)
    if uid in (-1, now.st_uid) and gid in (-1, now.st_gid):
        return
    try:
        os.fchown(descriptor, uid, gid)
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"may not give the file to {uid}:{gid}; run the agent as root, or set owner and "
            "group to its own",
            str(path),
        ) from error


def sync_folders(paths: Iterable[Path]) -> None:
    """Make renames, creations and removals in the folders of `paths` durable."""
    for folder in sorted({path.parent for path in paths}):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def existing(path: Path) -> os.stat_result | None:
    """The state of the regular file `path`, or None when there is nothing.

    Raises:
        Invalid: when something else than a file is in the way.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(f"{path} is not a regular file")
    return found


def digest(path: Path) -> str | None:
    """SHA-256 of the file's content in lower hex, or None when there is no file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def remove_temporaries(paths: Iterable[Path]) -> None:
    """Delete what a killed run left beside `paths`; the caller holds their lock."""
    for path in paths:
        for leftover in _siblings(path, TEMPORARY):
            leftover.unlink(missing_ok=True)


def prune_backups(path: Path, keep: int) -> None:
    """Delete all backups of `path` but the `keep` newest."""
    backups = sorted(
        sibling
        for sibling in _siblings(path, BACKUP)
        if BACKUP_NAME.fullmatch(sibling.name.removeprefix(path.name + BACKUP))
    )
    for backup in backups[: max(0, len(backups) - keep)]:
        backup.unlink(missing_ok=True)


def uid_of(owner: str | None) -> int | None:
    """Raises Invalid for a user this host does not know."""
    if not owner:
        return None
    try:
        return int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    except KeyError as error:
        raise Invalid(f"there is no user {owner} on this host") from error


def gid_of(group: str | None) -> int | None:
    """Raises Invalid for a group this host does not know."""
    if not group:
        return None
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Invalid(f"there is no group {group} on this host") from error


def _siblings(path: Path, infix: str) -> Iterator[Path]:
    prefix = path.name + infix
    yield from [entry for entry in path.parent.iterdir() if entry.name.startswith(prefix)]
