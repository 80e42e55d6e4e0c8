"""Private keys on this host: one file for each job, never overwritten, promoted when in service.

`<certificate>/<job>.key` holds a key; the links `current.key` and `previous.key` say which key
belongs to the deployed certificate and which one to the certificate before.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from certctl.agent.private import TEMPORARY, own_folder, stage_private
from certctl.connectors.files.disk import sync_folders
from certctl.domain.errors import Invalid
from certctl.domain.ids import checked_id
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm, PrivateKey

LINKS = ("current.key", "previous.key")


class KeyStore:
    """The keys below one folder.

    Raises:
        Unsafe: when the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = own_folder(folder, "CERTCTL_KEY_DIR", mode=0o700)
        self._changes = threading.Lock()

    def key_for(self, certificate_id: str, job_id: str, *, algorithm: KeyAlgorithm) -> PrivateKey:
        """The key of a job, made when it is first asked for and the same ever after.

        Raises:
            Invalid: for an id that cannot be a file name, or a damaged key file.
        """
        path = self._folder_of(certificate_id) / f"{checked_id(job_id, field='job_id')}.key"
        if path.name in LINKS:
            raise Invalid(f"job_id may not be {job_id}", field="job_id")
        with self._changes:
            if not path.exists():
                own_folder(path.parent, "CERTCTL_KEY_DIR", mode=0o700)
                self._create(path, keys.generate(algorithm))
        return keys.load_pem(path.read_text())

    def find(self, certificate_id: str, spki_sha256: str) -> Path | None:
        """The file of the key whose public half has this SHA-256 (lower hex), or None."""
        return next(
            (
                path
                for path in self._key_files(self._folder_of(certificate_id))
                if _spki_sha256(path) == spki_sha256
            ),
            None,
        )

    def current(self, certificate_id: str) -> Path | None:
        """The key of the deployed certificate."""
        return _target(self._folder_of(certificate_id) / "current.key")

    def promote(self, certificate_id: str, path: Path) -> None:
        """Make the key at `path` the current one; call it when its certificate is in service.

        Superseded keys go, except the predecessor and keys younger than `path`, whose
        certificates may be on their way.
        """
        folder = self._folder_of(certificate_id)
        with self._changes:
            before = _target(folder / "current.key")
            if before == path:
                return
            if before is not None:
                _point(folder / "previous.key", before)
            _point(folder / "current.key", path)
            self._prune(folder, path)

    def _create(self, path: Path, key: PrivateKey) -> None:
        for leftover in path.parent.glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
        staged = stage_private(path, keys.to_pem(key).encode())
        try:
            # A link, unlike a rename, cannot replace a key that is there.
            os.link(staged, path)
        finally:
            staged.unlink()
        sync_folders([path])

    def _prune(self, folder: Path, current: Path) -> None:
        kept = {current, _target(folder / "previous.key")}
        age = current.stat().st_mtime_ns
        for path in list(self._key_files(folder)):
            if path not in kept and path.stat().st_mtime_ns <= age:
                path.unlink()
        sync_folders([current])

    def _folder_of(self, certificate_id: str) -> Path:
        return self.folder / checked_id(certificate_id, field="certificate_id")

    @staticmethod
    def _key_files(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.glob("*.key")):
            if not path.is_symlink() and path.is_file():
                yield path


def _spki_sha256(path: Path) -> str | None:
    """None for a damaged file, which must not hide the sound ones beside it."""
    try:
        return keys.spki_sha256(keys.load_pem(path.read_text()).public_key())
    except (Invalid, UnicodeDecodeError):
        return None


def _target(link: Path) -> Path | None:
    try:
        return link.parent / link.readlink()
    except FileNotFoundError:
        return None


def _point(link: Path, path: Path) -> None:
    staged = link.with_name(f"{TEMPORARY}{link.name}.{secrets.token_hex(4)}")
    staged.symlink_to(path.name)
    staged.replace(link)
    sync_folders([link])
