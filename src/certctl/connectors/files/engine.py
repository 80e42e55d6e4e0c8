"""The order of a file deployment, and the way back from each of its steps."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from certctl.connectors.files import disk, journal
from certctl.connectors.files.journal import Entry
from certctl.connectors.files.locks import locked
from certctl.connectors.files.plan import (
    DeployFailed,
    FilePlan,
    PlannedFile,
    real_path,
    resolved,
)
from certctl.domain.errors import CertctlError, Unavailable

LOCK_WAIT = 120.0


def deploy(plan: FilePlan) -> bool:
    """Bring the files of `plan` into service; True when they already were.

    An interrupted earlier run is undone first.

    Raises:
        Invalid: when the plan makes no sense on this host.
        Unavailable: when another deployment of the same files does not end.
        DeployFailed: with the reason; see there for what `rolled_back` promises.
    """
    files = resolved(plan.files)
    paths = [file.path for file in files]
    _check_folders(paths)
    try:
        with locked(paths, LOCK_WAIT):
            _undo_interrupted(paths[0])
            disk.remove_temporaries(paths)
            if all(disk.digest(file.path) == _sha256(file.content) for file in files):
                return _ensure_served(plan)
            _replace(plan, files)
            return False
    except OSError as error:
        raise DeployFailed(f"nothing was changed: {_words(error)}", rolled_back=True) from error


def put(file: PlannedFile) -> None:
    """Replace one file atomically and durably. There is no backup: nothing else depends on it.

    Raises:
        Invalid: for a path or an owner that makes no sense on this host.
        Unavailable: when a deployment of the same file does not end, or the disk refuses.
    """
    [real] = resolved((file,))
    try:
        with locked([real.path], LOCK_WAIT):
            disk.remove_temporaries([real.path])
            staged = real.path.with_name(f"{real.path.name}{disk.TEMPORARY}{time.time_ns()}")
            _write_staged(real, staged, disk.existing(real.path))
            staged.replace(real.path)
            disk.sync_folders([real.path])
    except OSError as error:
        raise Unavailable(f"{real.path} was not replaced: {_words(error)}") from error


def _check_folders(paths: Iterable[Path]) -> None:
    if missing := sorted({str(path.parent) for path in paths if not path.parent.is_dir()}):
        raise DeployFailed(
            f"nothing was changed: there is no folder {', '.join(missing)}", rolled_back=True
        )


def recover(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Undo interrupted deployments; each path is the first file of one. Returns what was undone.

    Raises:
        Unavailable: when a living process is at work on one of them.
        DeployFailed: when a file cannot be put back.
    """
    undone = []
    for first in (real_path(path) for path in paths):
        if not journal.journal_path(first).exists():
            continue
        try:
            with locked([first], 0.0):
                if _undo_interrupted(first):
                    undone.append(first)
        except OSError as error:
            raise _not_undone(error) from error
    return tuple(undone)


def _undo_interrupted(first: Path) -> bool:
    try:
        entries = journal.read(first)
        if entries is None:
            return False
        journal.restore(entries)
        journal.remove(first)
        journal.forget(entries)
        disk.remove_temporaries([first, *(entry.path for entry in entries)])
    except OSError as error:
        raise _not_undone(error) from error
    return True


def _not_undone(error: OSError) -> DeployFailed:
    return DeployFailed(
        f"an interrupted deployment could not be undone: {_words(error)}", rolled_back=False
    )


def _ensure_served(plan: FilePlan) -> bool:
    """The files are right already; a service that does not serve them only wants a reload."""
    with suppress(CertctlError):
        plan.verify()
        return True
    try:
        plan.validate()
        plan.reload()
        plan.verify()
    except CertctlError as error:
        raise DeployFailed(
            f"{error.message}; the files were in place already and were left alone",
            rolled_back=False,
        ) from error
    return False


def _replace(plan: FilePlan, files: tuple[PlannedFile, ...]) -> None:
    first = files[0].path
    entries = _prepare(files)
    reloading = False
    try:
        for entry in entries:
            entry.staged.replace(entry.path)
        disk.sync_folders(entry.path for entry in entries)
        plan.validate()
        reloading = True
        plan.reload()
        plan.verify()
        journal.remove(first)
    except (CertctlError, OSError) as error:
        raise _rolled_back(plan, entries, _words(error), reload=reloading) from error
    with suppress(OSError):
        for file in files:
            disk.prune_backups(file.path, plan.backups_kept)


def _prepare(files: tuple[PlannedFile, ...]) -> list[Entry]:
    """New files and backups beside the old ones, and the journal; nothing has changed yet."""
    stamp = time.time_ns()
    entries: list[Entry] = []
    try:
        for file in files:
            entries.append(_stage(file, stamp))
        journal.write(files[0].path, entries)
    except (CertctlError, OSError) as error:
        with suppress(OSError):
            disk.remove_temporaries(file.path for file in files)
            journal.remove(files[0].path)
            journal.forget(entries)
        message = f"nothing was changed: {_words(error)}"
        raise DeployFailed(message, rolled_back=True) from error
    return entries


def _stage(file: PlannedFile, stamp: int) -> Entry:
    old = disk.existing(file.path)
    staged = file.path.with_name(f"{file.path.name}{disk.TEMPORARY}{stamp}")
    _write_staged(file, staged, old)
    backup = before = None
    if old is not None:
        backup = file.path.with_name(f"{file.path.name}{disk.BACKUP}{stamp}")
        content = file.path.read_bytes()
        before = _sha256(content)
        mode = stat.S_IMODE(old.st_mode)
        disk.write_new(backup, content, mode=mode, uid=old.st_uid, gid=old.st_gid)
    return Entry(
        path=file.path,
        staged=staged,
        backup=backup,
        before=before,
        sha256=_sha256(file.content),
    )


def _write_staged(file: PlannedFile, staged: Path, old: os.stat_result | None) -> None:
    """The new content, with mode and owner from the settings, the old file, or the defaults."""
    uid, gid, mode = disk.uid_of(file.owner), disk.gid_of(file.group), file.mode
    if old is None:
        defaults = (-1, -1, file.default_mode)
    else:
        defaults = (old.st_uid, old.st_gid, stat.S_IMODE(old.st_mode))
    disk.write_new(
        staged,
        file.content,
        uid=defaults[0] if uid is None else uid,
        gid=defaults[1] if gid is None else gid,
        mode=defaults[2] if mode is None else mode,
    )


def _rolled_back(
    plan: FilePlan, entries: list[Entry], reason: str, *, reload: bool
) -> DeployFailed:
    """Put the old files back and say how that went.

    A service that was never told of the new files is not reloaded: its configuration may be what
    is broken, and it still runs on the old one.
    """
    try:
        journal.restore(entries)
        journal.remove(entries[0].path)
        with suppress(OSError):
            journal.forget(entries)
        if reload:
            plan.reload()
    except (CertctlError, OSError) as error:
        return DeployFailed(
            f"{reason}; and going back to the previous files failed: {_words(error)}; "
            "this host needs a look",
            rolled_back=False,
        )
    return DeployFailed(f"{reason}; the previous files are back", rolled_back=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _words(error: CertctlError | OSError) -> str:
    if isinstance(error, CertctlError):
        return error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
