"""lego: `<domain>.crt`, its issuer in `<domain>.issuer.crt`, and notes in `<domain>.json`."""

from __future__ import annotations

from pathlib import Path

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree

TOOL = "lego"
CRT, ISSUER = ".crt", ".issuer.crt"


def claims(tree: Tree, folder: Path) -> bool:
    return bool(_certificates(tree, folder))


def read(tree: Tree, folder: Path) -> list[Found]:
    """Each certificate with the issuer's beside it."""
    found = []
    for path in _certificates(tree, folder):
        issuer = path.with_name(path.name.removesuffix(CRT) + ISSUER)
        pem = tree.certificates(path)
        if tree.has(issuer):
            pem += tree.certificates(issuer)
        found.append(Found(path, pem, TOOL))
    return found


def _certificates(tree: Tree, folder: Path) -> list[Path]:
    return [
        path
        for path in tree.files(folder)
        if path.name.endswith(CRT)
        and not path.name.endswith(ISSUER)
        and tree.has(path.with_suffix(".json"))
        and '"certUrl"' in tree.text(path.with_suffix(".json"))
    ]
