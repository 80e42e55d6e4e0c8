"""certbot: `live/<lineage>/` holds links to the newest files in `archive/<lineage>/`."""

from __future__ import annotations

from pathlib import Path

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree

TOOL = "certbot"


def claims(tree: Tree, folder: Path) -> bool:
    names = {path.name for path in tree.folders(folder)}
    return "live" in names and bool(names & {"archive", "renewal"})


def read(tree: Tree, folder: Path) -> list[Found]:
    """Every lineage under its own name."""
    found = []
    for lineage in tree.folders(folder / "live"):
        path = lineage / "fullchain.pem"
        parts = [path] if tree.has(path) else [lineage / "cert.pem", lineage / "chain.pem"]
        pem = "".join(tree.certificates(part) for part in parts if tree.has(part))
        found.append(Found(parts[0], pem, TOOL, lineage.name))
    return found
