"""The file of a backup: a tar archive whose last members say what the others must be."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from certctl.domain.errors import Unsafe

FORMAT = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What a backup was made from and what it holds.

    `migrations` maps versions to checksums, `tables` names to columns, `sequences` names to the
    last number drawn, `members` names to size in bytes and SHA-256.
    """

    format: int
    certctl: str
    postgresql: int
    taken_at: str
    migrations: dict[str, str]
    tables: dict[str, list[str]]
    sequences: dict[str, int]
    members: dict[str, tuple[int, str]] = field(default_factory=dict)


class Writer:
    """Writes members of unknown length one after the other, under a temporary name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        self._temporary = Path(name)
        self._out = os.fdopen(descriptor, "wb")
        self._members: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._out.close()
        self._temporary.unlink(missing_ok=True)

    @contextmanager
    def member(self, name: str) -> Iterator[Callable[[bytes], None]]:
        """Yields a function that appends to the member; its length is filled in afterwards."""
        start = self._out.tell()
        self._out.write(bytes(tarfile.BLOCKSIZE))
        size, digest = 0, hashlib.sha256()

        def put(part: bytes) -> None:
            nonlocal size
            size += len(part)
            digest.update(part)
            self._out.write(part)

        yield put
        self._out.write(bytes(-size % tarfile.BLOCKSIZE))
        end = self._out.tell()
        self._out.seek(start)
        self._out.write(_header(name, size))
        self._out.seek(end)
        self._members[name] = (size, digest.hexdigest())

    def add(self, name: str, path: Path) -> None:
        """Append a copy of the file `path`."""
        with self.member(name) as put, path.open("rb") as source:
            while part := source.read(CHUNK):
                put(part)

    def manifest(self, facts: Manifest) -> Manifest:
        """`facts` with the members written so far."""
        return replace(facts, members={**self._members})

    def finish(self, facts: Manifest) -> None:
        """Append the manifest and its digest, and give the file its name once it is on disk."""
        described = json.dumps(asdict(self.manifest(facts)), indent=1, sort_keys=True).encode()
        members = self._members
        self._members = {}
        with self.member(MANIFEST) as put:
            put(described)
        with self.member(SEAL) as put:
            put(hashlib.sha256(described).hexdigest().encode())
        self._members = members
        self._out.write(bytes(2 * tarfile.BLOCKSIZE))
        self._out.flush()
        os.fsync(self._out.fileno())
        self._temporary.replace(self._file)
        directory = os.open(self._file.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class Reader:
    """Reads what `Writer` wrote; whoever does not `verify` first gets what is there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._tar = tarfile.open(file, "r:")  # noqa: SIM115 - closed on exit
        except (tarfile.TarError, ValueError) as error:
            raise self._damaged("it is not a tar archive") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tar.close()

    def names(self) -> list[str]:
        """The members in their order."""
        return self._tar.getnames()

    def open(self, name: str) -> IO[bytes]:
        """The content of a member."""
        content = self._tar.extractfile(name)
        if content is None:
            raise self._damaged(f"{name} is not a file")
        return content

    def verify(self) -> Manifest:
        """The manifest, when every member is what it says.

        Raises:
            Unsafe: naming the first thing that is not.
        """
        try:
            manifest = self._manifest()
            names = self.names()
            if sorted(names) != sorted([*manifest.members, MANIFEST, SEAL]):
                raise self._damaged("members are missing or were added")
            for name, (size, digest) in manifest.members.items():
                if self._measured(name) != (size, digest):
                    raise self._damaged(f"{name} was altered")
        except (tarfile.TarError, ValueError, KeyError, TypeError, EOFError) as error:
            raise self._damaged(str(error) or "it ends too early") from error
        return manifest

    def _measured(self, name: str) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        with self.open(name) as content:
            while part := content.read(CHUNK):
                digest.update(part)
                size += len(part)
        return size, digest.hexdigest()

    def _manifest(self) -> Manifest:
        with self.open(MANIFEST) as content:
            described = content.read()
        with self.open(SEAL) as content:
            seal = content.read()
        if hashlib.sha256(described).hexdigest().encode() != seal:
            raise self._damaged(f"{MANIFEST} was altered")
        told = json.loads(described)
        if told["format"] != FORMAT:
            raise Unsafe(f"{self._file} was made by a certctl this one does not understand.")
        members = {name: (size, digest) for name, (size, digest) in told.pop("members").items()}
        return Manifest(**told, members=members)

    def _damaged(self, what: str) -> Unsafe:
        return Unsafe(f"{self._file} is damaged or is no backup: {what}. Nothing was changed.")


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    header = info.tobuf(tarfile.GNU_FORMAT)
    assert len(header) == tarfile.BLOCKSIZE
    return header
