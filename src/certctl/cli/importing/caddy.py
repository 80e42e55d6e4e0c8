"""Caddy: `certificates/<ca>/<domain>/<domain>.crt` with notes in `<domain>.json`."""

from __future__ import annotations

from pathlib import Path

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree

TOOL = "caddy"


def claims(tree: Tree, folder: Path) -> bool:
    notes = folder / f"{folder.name}.json"
    return tree.has(folder / f"{folder.name}.crt") and tree.has(notes)


def read(tree: Tree, folder: Path) -> list[Found]:
    """The one certificate of the directory, with its chain."""
    path = folder / f"{folder.name}.crt"
    return [Found(path, tree.certificates(path), TOOL)]
