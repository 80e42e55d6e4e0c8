"""The passphrase for secrets at rest: from the setting, or a file made at the first start."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from certctl.domain.errors import Unsafe
from certctl.settings import Settings, weakness

FILE = "encryption.key"


def passphrase(settings: Settings, *, database_is_empty: bool) -> bytes:
    """The operator's passphrase.

    Without the setting one is made, mode 0600, in the data directory, and only while the
    database holds nothing sealed.

    Raises:
        Unsafe: when sealed rows exist and there is no passphrase for them.
    """
    given = settings.config_encryption_key.get_secret_value()
    if given:
        return given.encode()
    path = settings.data_dir / FILE
    if path.exists():
        return strong(path.read_bytes().strip(), told_by=str(path))
    if not database_is_empty:
        raise Unsafe(
            f"CERTCTL_CONFIG_ENCRYPTION_KEY is not set and {path} is missing, but the database "
            "holds sealed secrets: give the passphrase that they were sealed with"
        )
    made = secrets.token_urlsafe(48).encode()
    write_whole(path, made, mode=0o600)
    return made


def strong(words: bytes, *, told_by: str) -> bytes:
    """The passphrase itself. Raises Unsafe when it is a placeholder or shorter than 32 bytes."""
    text = words.decode(errors="replace")
    if weak := weakness(text):
        raise Unsafe(f"{told_by}: the passphrase {weak}")
    return words


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    partial.touch(mode=mode, exist_ok=False)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory, 0700 when it is new.

    Raises:
        Unsafe: when it cannot be written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = data_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Unsafe(
            f"CERTCTL_DATA_DIR: {data_dir} cannot be written ({error.strerror}); "
            "name a directory of yours, or mend its owner or mode"
        ) from None
