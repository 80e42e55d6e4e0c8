"""The note beside the first file that lets any later run undo an interrupted swap.

It is on the disk before the first rename and goes when the deployment is verified; while it
exists, the files of its entries are not to be trusted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from certctl.connectors.files.disk import TEMPORARY, digest, existing, sync_folders, write_new
from certctl.connectors.files.plan import DeployFailed


class Entry(BaseModel):
    """`before` and `sha256` are of the old and new content; without a `backup` there was no file
    before."""

    model_config = ConfigDict(frozen=True)

    path: Path
    staged: Path
    backup: Path | None
    before: str | None
    sha256: str


class _Journal(BaseModel):
    model_config = ConfigDict(frozen=True)

    entries: tuple[Entry, ...]


def journal_path(first: Path) -> Path:
    return first.with_name(first.name + ".certctl-journal")


def write(first: Path, entries: Iterable[Entry]) -> None:
    """Record the swap that is about to begin; staged files and backups become durable with it."""
    entries = tuple(entries)
    staged = first.with_name(f"{first.name}{TEMPORARY}{time.time_ns()}.journal")
    write_new(staged, _Journal(entries=entries).model_dump_json().encode(), mode=0o600)
    sync_folders([first, *(entry.path for entry in entries)])
    staged.replace(journal_path(first))
    sync_folders([first])


def read(first: Path) -> tuple[Entry, ...] | None:
    """The interrupted swap, or None.

    Raises:
        DeployFailed: for a journal that is not ours to believe, or is damaged.
    """
    path = journal_path(first)
    found = existing(path)
    if found is None:
        return None
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise _not_usable(path, "belongs to somebody else")
    try:
        return _Journal.model_validate_json(path.read_bytes()).entries
    except ValidationError as error:
        raise _not_usable(path, "is damaged") from error


def remove(first: Path) -> None:
    """From here on the new files count."""
    journal_path(first).unlink(missing_ok=True)
    sync_folders([first])


def restore(entries: Iterable[Entry]) -> None:
    """Put back every file that holds what the interrupted run wrote; others are left alone.

    May be repeated after being interrupted itself. It renames the backups, which works on a full
    disk too.
    """
    entries = tuple(entries)
    for entry in reversed(entries):
        if digest(entry.path) == entry.sha256:
            _put_back(entry)
    sync_folders(entry.path for entry in entries)


def _put_back(entry: Entry) -> None:
    if entry.backup is None:
        entry.path.unlink()
    elif entry.before != entry.sha256 or entry.backup.exists():
        entry.backup.replace(entry.path)


def forget(entries: Iterable[Entry]) -> None:
    """Delete the staged files and backups of a swap that did not happen or was undone."""
    for entry in entries:
        entry.staged.unlink(missing_ok=True)
        if entry.backup:
            entry.backup.unlink(missing_ok=True)


def _not_usable(path: Path, why: str) -> DeployFailed:
    return DeployFailed(
        f"{path} tells of an interrupted deployment and {why}: check that certificate and key "
        "fit each other, then delete it",
        rolled_back=False,
    )
