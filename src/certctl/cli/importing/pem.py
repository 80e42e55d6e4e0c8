"""Any other directory: every file that is named as a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from certctl.cli.importing.found import Found
from certctl.cli.importing.tree import Tree, is_key

TOOL = "pem"
ENDINGS: Final = frozenset({".pem", ".crt", ".cer"})


def read(tree: Tree, folder: Path) -> list[Found]:
    """Files without a certificate in them, such as keys and parameters, are passed over."""
    named = [path for path in tree.files(folder) if path.suffix.lower() in ENDINGS]
    found = [Found(path, tree.certificates(path), TOOL) for path in named if not is_key(path.name)]
    return [one for one in found if one.pem]
