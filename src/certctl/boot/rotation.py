"""`certctl secrets`: under which keys the stored secrets are, and replacing those keys."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import typer

from certctl.boot import keys
from certctl.boot.platform import running_or_started
from certctl.domain.access import system
from certctl.domain.errors import Unavailable, Unsafe
from certctl.services.rotation import Passphrases
from certctl.services.rotation import rotate as rotating
from certctl.settings import Settings
from certctl.store import migrate
from certctl.store import secrets as stored
from certctl.store.db import Database

NEW: Final = "CERTCTL_NEW_CONFIG_ENCRYPTION_KEY"
KEPT: Final = "encryption.key.next"


async def rotate(settings: Settings, new_file: Path | None, *, patience: timedelta) -> None:
    """Seal everything anew, and keep the new passphrase where the present one came from."""
    in_file = not settings.config_encryption_key.get_secret_value()
    present = keys.passphrase(settings, database_is_empty=False)
    next_ = settings.data_dir / KEPT
    given = _given(new_file)

    def next_passphrase() -> bytes:
        if not in_file:
            return given() if given else _asked()
        if given is None and next_.exists() and next_.read_bytes().strip() != present:
            return next_.read_bytes().strip()
        words = given() if given else secrets.token_urlsafe(48).encode()
        keys.write_whole(next_, words, mode=0o600)
        return words

    async with _open(settings) as db:
        passphrases = Passphrases(
            present, next_passphrase, lambda: _keep(next_) if in_file else None
        )
        count = await rotating(db, system("secrets-rotation"), passphrases, patience=patience)
    print(f"{count} values are under a new data key and a new passphrase; the old ones are gone")
    if in_file:
        print(f"the new passphrase is in {settings.data_dir / keys.FILE}")
    else:
        print("set CERTCTL_CONFIG_ENCRYPTION_KEY to the new passphrase before the next start")
    print("backups made before open with the old passphrase only: make a new one")


async def status(settings: Settings) -> None:
    """Print how many values are under which key; needs no passphrase and shows no secret."""
    async with _open(settings) as db, db.read() as session:
        data_keys, census = await stored.data_keys(session), await stored.census(session)
    for row in data_keys:
        role = f", replaces {row['replaces']}: run `certctl secrets rotate`" * bool(row["replaces"])
        print(f"data key {row['id']}, made {row['created_at']:%Y-%m-%d %H:%M} UTC{role}")
    for row in census:
        print(f"{row['table'] + '.' + row['column']:<38}{row['under']:<24}{row['rows']:>9}")


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Database]:
    async with running_or_started(settings) as conninfo:
        if await migrate.pending(conninfo):
            raise Unavailable("the database is not migrated: start `certctl serve` first")
        db = Database(conninfo, max_size=4)
        await db.open()
        try:
            yield db
        finally:
            await db.close()


def _given(file: Path | None) -> Callable[[], bytes] | None:
    """The new passphrase of a file (`-`: standard input) or of the environment."""
    if file is not None:
        return lambda: keys.strong(_first_line(file), told_by=str(file))
    if words := os.environ.get(NEW):
        return lambda: keys.strong(words.encode(), told_by=NEW)
    return None


def _first_line(file: Path) -> bytes:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Unsafe(f"{file} cannot be read: {error.strerror}") from None
    return content.partition(b"\n")[0].strip()


def _asked() -> bytes:
    if not sys.stdin.isatty():
        raise Unsafe(f"give the new passphrase with --new-passphrase-file or {NEW}")
    text: str = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return keys.strong(text.encode(), told_by="the answer")


def _keep(next_: Path) -> None:
    """Make the file of the next passphrase that of the present one; again is harmless."""
    if not next_.exists():
        return
    next_.replace(next_.with_name(keys.FILE))
    directory = os.open(next_.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
