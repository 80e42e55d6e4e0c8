"""acme.sh: a directory for each certificate, `<domain>` for RSA and `<domain>_ecc` for ECDSA."""

from __future__ import annotations

from pathlib import Path

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree

TOOL = "acme.sh"
ECC = "_ecc"


def claims(tree: Tree, folder: Path) -> bool:
    domain = folder.name.removesuffix(ECC)
    return tree.has(folder / f"{domain}.conf") and tree.has(folder / f"{domain}.cer")


def read(tree: Tree, folder: Path) -> list[Found]:
    """The certificate; where both kinds of key are kept, the ECDSA one has a name of its own."""
    domain = folder.name.removesuffix(ECC)
    path = folder / "fullchain.cer"
    parts = [path] if tree.has(path) else [folder / f"{domain}.cer", folder / "ca.cer"]
    pem = "".join(tree.certificates(part) for part in parts if tree.has(part))
    twins = folder.name != domain and (folder.parent / domain).is_dir()
    return [Found(parts[0], pem, TOOL, folder.name if twins else None)]
