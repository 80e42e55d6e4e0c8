"""What a reader finds, and what every reader of a tool's directory is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certctl.cli.importing.tree import Tree


@dataclass(frozen=True)
class Found:
    """A certificate's PEM with its chain; `name` where the tool has one that tells it apart."""

    path: Path
    pem: str
    source: str
    name: str | None = None


class Reader(Protocol):
    """One tool's layout."""

    TOOL: str

    def claims(self, tree: Tree, folder: Path) -> bool:
        """Whether the directory is one that the tool keeps; nobody else then looks into it."""

    def read(self, tree: Tree, folder: Path) -> list[Found]:
        """The current certificates in a directory that was claimed."""
