"""A directory read with care: bounded, never outside itself, never a key."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

LARGEST: Final = 1 << 20  # bytes
DEEPEST: Final = 12
MOST_ENTRIES: Final = 100_000
KEY_NAME: Final = re.compile(r"^privkey|\.key$|(^|[-_.])key\d*\.pem$", re.IGNORECASE)
CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----"
)


@dataclass
class Tree:
    """Everything is given by its path; `problems` holds what could not be read, in words, and
    `outside` the links that lead out of the tree, which are not followed."""

    root: Path
    problems: list[tuple[Path, str]] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)
    _listed: dict[Path, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()

    def folders(self, folder: Path) -> list[Path]:
        """The directories in a directory; links to directories are not among them."""
        return [path for path in self._list(folder) if _mode(path, stat.S_ISDIR, links=False)]

    def files(self, folder: Path) -> list[Path]:
        """What else is in it, links to files too."""
        return [path for path in self._list(folder) if _mode(path, stat.S_ISREG)]

    def has(self, path: Path) -> bool:
        """Whether there is a file, or a link to one that stays within the tree."""
        return _mode(path, stat.S_ISREG) and self._inside(path) is not None

    def certificates(self, path: Path) -> str:
        """The certificates in a file, PEM, and nothing else that is in it; empty for none.

        A file that is named as a key is not opened.
        """
        data = self._read(path)
        if data[:1] == b"\x30":
            text = base64.encodebytes(data).decode()
            return f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
        blocks = CERTIFICATE.findall(data.decode("ascii", "replace"))
        return "".join(f"{block}\n" for block in blocks)

    def text(self, path: Path) -> str:
        """A tool's own notes beside a certificate."""
        return self._read(path).decode("utf-8", "replace")

    def _list(self, folder: Path) -> list[Path]:
        """What is in a directory, looked up once."""
        if folder not in self._listed:
            self._listed[folder] = self._entries_of(folder)
        return self._listed[folder]

    def _entries_of(self, folder: Path) -> list[Path]:
        if len(folder.relative_to(self.root).parts) > DEEPEST:
            self.problems.append((folder, f"lies more than {DEEPEST} directories deep"))
            return []
        left = MOST_ENTRIES - sum(map(len, self._listed.values()))
        try:
            found = sorted(islice(folder.iterdir(), left + 1))
        except OSError as error:
            self.problems.append((folder, error.strerror or "cannot be listed"))
            return []
        if len(found) > left:
            self.problems.append((folder, f"beyond the first {MOST_ENTRIES} entries"))
        return found[:left]

    def _inside(self, path: Path) -> Path | None:
        """Where a path leads, if that is within the tree."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError):  # links in a circle
            return None
        return real if real.is_relative_to(self.root) else None

    def _read(self, path: Path) -> bytes:
        real = self._inside(path)
        if real is None:
            self.outside.append(path)
            return b""
        if is_key(path.name) or is_key(real.name):
            return b""
        try:
            return self._bytes(path, real)
        except OSError as error:
            self.problems.append((path, error.strerror or "cannot be read"))
            return b""

    def _bytes(self, path: Path, real: Path) -> bytes:
        # Neither a pipe that nobody writes to nor a link that was put here since is waited for.
        opened = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return b""
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            self.problems.append((path, f"is larger than {LARGEST >> 20} MiB"))
            return b""
        return data


def _mode(path: Path, is_kind: Callable[[int], bool], *, links: bool = True) -> bool:
    """Whether a path is of a kind, seen through links or not; what cannot be seen is of none."""
    try:
        return is_kind(path.stat(follow_symlinks=links).st_mode)
    except (OSError, RuntimeError):
        return False


def is_key(name: str) -> bool:
    """Whether a file's name says that it holds a private key."""
    return KEY_NAME.search(name) is not None
