"""dehydrated: `certs/<domain>/` with links such as `fullchain.pem` to dated files beside them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree

TOOL = "dehydrated"
DATED: Final = re.compile(r"cert-\d+\.pem")


def claims(tree: Tree, folder: Path) -> bool:
    names = {path.name for path in tree.files(folder)}
    return "cert.pem" in names and any(DATED.fullmatch(name) for name in names)


def read(tree: Tree, folder: Path) -> list[Found]:
    """The newest certificate, under the directory's name, which may be an alias."""
    path = folder / "fullchain.pem"
    parts = [path] if tree.has(path) else [folder / "cert.pem", folder / "chain.pem"]
    pem = "".join(tree.certificates(part) for part in parts if tree.has(part))
    return [Found(parts[0], pem, TOOL, folder.name)]
