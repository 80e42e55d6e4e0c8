"""Certificates below the paths that were given, each tool's directory read as the tool means it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from certctl.cli.importing import acme_sh, caddy, certbot, dehydrated, lego, pem
from certctl.cli.importing.found import Found, Reader
from certctl.cli.importing.tree import Tree
from certctl.domain.errors import Invalid, NotFound
from certctl.pki.bundle import bundles
from certctl.pki.x509 import chain_pem


class Format(StrEnum):
    AUTO = "auto"
    PEM = pem.TOOL
    CERTBOT = certbot.TOOL
    ACME_SH = acme_sh.TOOL
    LEGO = lego.TOOL
    DEHYDRATED = dehydrated.TOOL
    CADDY = caddy.TOOL


# Caddy's layout is a narrower case of lego's.
READERS: Final[tuple[Reader, ...]] = (certbot, acme_sh, dehydrated, caddy, lego)


@dataclass
class Harvest:
    """What is to be sent, one end certificate each; what could not be used, in words; and the
    links that were not followed."""

    found: list[Found] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)


def find(paths: Iterable[Path], wanted: Format = Format.AUTO) -> Harvest:
    """Everything below the paths, each certificate once; CAs alone are passed over.

    Raises:
        NotFound: for a path that does not exist.
    """
    harvest, seen = Harvest(), set[bytes]()
    for path in paths:
        if not path.exists():
            raise NotFound(f"{path} does not exist")
        # A link that the operator names is followed; those inside a directory stay inside.
        real = path.resolve()
        tree = Tree(real if real.is_dir() else real.parent)
        for found in _below(tree, real, wanted):
            _take(harvest, found, seen)
        harvest.refused += tree.problems
        harvest.outside += tree.outside
    return harvest


def _below(tree: Tree, path: Path, wanted: Format) -> Iterator[Found]:
    if not path.is_dir():
        yield Found(path, tree.certificates(path), pem.TOOL)
        return
    readers = [r for r in READERS if wanted in (Format.AUTO, r.TOOL)]
    waiting = [tree.root]
    while waiting:
        folder = waiting.pop()
        reader = next((r for r in readers if r.claims(tree, folder)), None)
        if reader is not None:
            yield from reader.read(tree, folder)
            continue
        if wanted in (Format.AUTO, Format.PEM):
            yield from pem.read(tree, folder)
        waiting += reversed(tree.folders(folder))


def _take(harvest: Harvest, found: Found, seen: set[bytes]) -> None:
    try:
        chains = bundles(found.pem)
    except Invalid as refusal:
        harvest.refused.append((found.path, refusal.message))
        return
    for chain in chains:
        if chain[0] not in seen:
            seen.add(chain[0])
            # A name is one certificate's.
            name = found.name if len(chains) == 1 else None
            harvest.found.append(replace(found, pem=chain_pem(chain), name=name))
