"""A deployment killed with SIGKILL between any two of its steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certctl.connectors.files import deploy, recover
from tests.connectors.killed_deploy import a_plan

ROOT = Path(__file__).parents[2]
NEW = (b"new cert\n", b"new key\n")
OLD = {"existing": (b"old cert\n", b"old key\n"), "fresh": (None, None)}


def folders_of_killed(root: Path, action: str, kind: str) -> list[Path]:
    script = [sys.executable, "-m", "tests.connectors.killed_deploy", str(root), action, kind]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [root / str(step) for step in range(int(done.stdout) + 1)]


@pytest.fixture(scope="module", params=["existing", "fresh"])
def killed(request, tmp_path_factory) -> tuple[list[Path], str]:
    root = tmp_path_factory.mktemp(request.param)
    return folders_of_killed(root, "deploy", request.param), request.param


def pair(folder: Path) -> tuple[bytes | None, ...]:
    paths = (folder / "site.pem", folder / "site.key")
    return tuple(path.read_bytes() if path.exists() else None for path in paths)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if "certctl-tmp" in p.name or "journal" in p.name]


def test_the_kills_cover_every_state_the_pair_can_be_in(killed):
    folders, kind = killed
    assert len(folders) > 20
    states = [pair(folder) for folder in folders]
    mixed = (NEW[0], OLD[kind][1])
    assert {OLD[kind], mixed, NEW} == set(states)


def test_recovery_leaves_the_old_pair_or_the_verified_new_one(killed, tmp_path):
    folders, kind = killed
    for folder in folders:
        journal = folder / "site.pem.certctl-journal"
        interrupted = journal.exists()
        copy = Path(shutil.copytree(folder, tmp_path / folder.name))
        # The journal names absolute paths; the copy needs its own.
        if interrupted:
            mine = copy / journal.name
            mine.write_text(mine.read_text().replace(str(folder), str(copy)))
        undone = recover([copy / "site.pem"])
        assert bool(undone) == interrupted
        served_new = (copy / "loaded").exists() and b"new" in (copy / "loaded").read_bytes()
        assert pair(copy) == OLD[kind] or (pair(copy) == NEW and served_new)
        assert not (copy / journal.name).exists()


def test_the_next_deployment_succeeds_whatever_was_left_behind(killed):
    folders, kind = killed
    for folder in folders:
        deploy(a_plan(folder))
        assert pair(folder) == NEW
        assert (folder / "loaded").read_bytes() == b"".join(NEW)
        assert leftovers(folder) == []
        mode = (folder / "site.key").stat().st_mode & 0o777
        assert mode == (0o640 if kind == "existing" else 0o600)


@pytest.mark.parametrize("kind", ["existing", "fresh"])
def test_a_killed_recovery_can_be_repeated(kind, tmp_path):
    folders = folders_of_killed(tmp_path, "recover", kind)
    assert len(folders) > 5
    for folder in folders:
        recover([folder / "site.pem"])
        assert pair(folder) == OLD[kind]
        assert not (folder / "site.pem.certctl-journal").exists()


def test_recovery_of_what_was_never_begun_does_nothing(tmp_path):
    assert recover([tmp_path / "site.pem", tmp_path / "absent" / "site.pem"]) == ()
