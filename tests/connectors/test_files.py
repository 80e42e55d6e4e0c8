"""The file engine: what is where after success, after failure at each step, and for whom."""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from certctl.connectors.files import (
    DeployFailed,
    FilePlan,
    PlannedFile,
    deploy,
    engine,
    put,
    recover,
)
from certctl.domain.errors import Invalid, Refused, Unavailable

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")


@dataclass
class Site:
    """Two files and the service that uses them; `loaded` is what it has in memory."""

    folder: Path
    fails: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.steps: list[str] = []
        self.cert, self.key = self.folder / "site.pem", self.folder / "site.key"
        self.loaded = self.pair() if self.cert.exists() else None

    def pair(self) -> tuple[bytes, bytes]:
        return self.cert.read_bytes(), self.key.read_bytes()

    def plan(self, number: int, **changes) -> FilePlan:
        files = (
            PlannedFile(self.cert, b"cert %d" % number, 0o644),
            PlannedFile(self.key, b"key %d" % number, 0o600),
        )
        wanted = tuple(file.content for file in files)
        plan = FilePlan(
            files,
            validate=lambda: self._step("validate"),
            reload=self._reload,
            verify=lambda: self._verify(wanted),
        )
        return replace(plan, **changes)

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fails:
            raise Refused(f"{name} said no")

    def _reload(self) -> None:
        if "reload of old" in self.fails and "reload" in self.steps:
            raise Refused("reload said no again")
        first = "reload" not in self.steps
        self.steps.append("reload")
        if first and "reload" in self.fails:
            raise Refused("reload said no")
        self.loaded = self.pair()

    def _verify(self, wanted: tuple[bytes, ...]) -> None:
        self._step("verify")
        if self.loaded != wanted:
            raise Refused("another certificate is served")

    def leftovers(self) -> list[str]:
        marks = ("certctl-tmp", "certctl-journal", "certctl-bak")
        return [p.name for p in self.folder.iterdir() if any(mark in p.name for mark in marks)]

    def backups(self) -> list[bytes]:
        return [p.read_bytes() for p in sorted(self.folder.glob("site.pem.certctl-bak.*"))]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "site.pem").write_bytes(b"cert 0")
    (tmp_path / "site.key").write_bytes(b"key 0")
    (tmp_path / "site.key").chmod(0o640)
    return Site(tmp_path)


def failing(site: Site, *steps: str) -> Site:
    return Site(site.folder, frozenset(steps))


@pytest.fixture
def rename_fails(monkeypatch):
    """Makes the renames with these numbers fail, counted from the first to a planned file."""

    def arrange(*numbers: int) -> None:
        real, count = os.replace, 0

        def replace_or_fail(source, to, **kwargs):
            nonlocal count
            if str(to).endswith(("site.pem", "site.key")):
                count += 1
                if count in numbers:
                    raise OSError(5, "Input/output error", str(to))
            return real(source, to, **kwargs)

        monkeypatch.setattr(os, "replace", replace_or_fail)

    return arrange


def test_a_deployment_swaps_then_validates_then_reloads_then_verifies(site):
    seen = []
    plan = site.plan(1, validate=lambda: seen.append(site.pair()))
    assert deploy(plan) is False
    assert seen == [(b"cert 1", b"key 1")]
    assert site.steps == ["reload", "verify"]
    assert site.loaded == (b"cert 1", b"key 1")


@pytest.mark.parametrize(
    ("fails", "reloaded"),
    [("validate", False), ("reload", True), ("verify", True)],
)
def test_a_failing_step_brings_the_old_files_back(site, fails, reloaded):
    site = failing(site, fails)
    with pytest.raises(DeployFailed, match=f"{fails} said no; the previous files") as failure:
        deploy(site.plan(1))
    assert failure.value.rolled_back
    assert site.pair() == (b"cert 0", b"key 0")
    assert site.loaded == (b"cert 0", b"key 0")
    assert (site.steps.count("reload") > 0) == reloaded
    assert site.leftovers() == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_failing_rename_brings_the_old_files_back(site, rename_fails, number):
    rename_fails(number)
    with pytest.raises(DeployFailed, match="Input/output error") as failure:
        deploy(site.plan(1))
    assert failure.value.rolled_back
    assert site.pair() == (b"cert 0", b"key 0")
    assert site.steps == []
    assert site.leftovers() == []


def test_files_that_were_not_there_before_are_removed_on_failure(tmp_path):
    site = Site(tmp_path, frozenset({"validate"}))
    with pytest.raises(DeployFailed) as failure:
        deploy(site.plan(1))
    assert failure.value.rolled_back
    assert not site.cert.exists()
    assert not site.key.exists()


def test_a_way_back_that_fails_is_told_with_both_reasons(site):
    site = failing(site, "verify", "reload of old")
    with pytest.raises(DeployFailed) as failure:
        deploy(site.plan(1))
    assert not failure.value.rolled_back
    assert "verify said no" in failure.value.message
    assert "reload said no again" in failure.value.message
    assert site.pair() == (b"cert 0", b"key 0")


def test_files_that_cannot_be_restored_are_restored_by_the_next_run(site, rename_fails):
    rename_fails(3)
    site = failing(site, "validate")
    with pytest.raises(DeployFailed, match="Input/output error") as failure:
        deploy(site.plan(1))
    assert not failure.value.rolled_back
    assert site.pair() == (b"cert 1", b"key 1")
    assert recover([site.cert]) == (site.cert,)
    assert site.pair() == (b"cert 0", b"key 0")


def test_a_staging_failure_changes_nothing(site, monkeypatch):
    monkeypatch.setattr(os, "fchown", denied)
    plan = site.plan(1)
    cert, key = plan.files
    with pytest.raises(DeployFailed, match="run the agent as root") as failure:
        deploy(replace(plan, files=(cert, replace(key, owner="65533"))))
    assert failure.value.rolled_back
    assert failure.value.message.startswith("nothing was changed")
    assert site.pair() == (b"cert 0", b"key 0")
    assert site.leftovers() == []


def denied(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_the_same_content_that_is_served_is_left_alone(site):
    deploy(site.plan(1))
    before = site.cert.stat()
    site.steps.clear()
    assert deploy(site.plan(1)) is True
    assert site.steps == ["verify"]
    assert site.cert.stat() == before


def test_the_same_content_that_is_not_served_only_needs_a_reload(site):
    deploy(site.plan(1))
    site.loaded = None
    site.steps.clear()
    assert deploy(site.plan(1)) is False
    assert site.steps == ["verify", "validate", "reload", "verify"]


def test_the_same_content_that_stays_unserved_is_a_failure_without_a_way_back(site):
    deploy(site.plan(1))
    site.fails = frozenset({"verify"})
    with pytest.raises(DeployFailed, match="were left alone") as failure:
        deploy(site.plan(1))
    assert not failure.value.rolled_back
    assert site.pair() == (b"cert 1", b"key 1")


@ROOT_ONLY
def test_owner_and_mode_of_existing_files_are_kept(site):
    os.chown(site.key, 65533, 65532)
    deploy(site.plan(1))
    key = site.key.stat()
    assert (key.st_mode & 0o777, key.st_uid, key.st_gid) == (0o640, 65533, 65532)
    backup = next(site.folder.glob("site.key.certctl-bak.*")).stat()
    assert (backup.st_mode & 0o777, backup.st_uid, backup.st_gid) == (0o640, 65533, 65532)


@ROOT_ONLY
def test_owner_and_mode_are_kept_on_the_way_back_too(site):
    os.chown(site.key, 65533, 65532)
    site = failing(site, "verify")
    with pytest.raises(DeployFailed):
        deploy(site.plan(1))
    key = site.key.stat()
    assert (key.st_mode & 0o777, key.st_uid, key.st_gid) == (0o640, 65533, 65532)


def test_a_file_with_the_same_content_keeps_its_old_mode_on_the_way_back(site):
    site = failing(site, "verify")
    plan = site.plan(1)
    cert, key = plan.files
    with pytest.raises(DeployFailed) as failure:
        deploy(replace(plan, files=(cert, replace(key, content=b"key 0", mode=0o400))))
    assert failure.value.rolled_back
    assert site.key.stat().st_mode & 0o777 == 0o640
    assert site.leftovers() == []


@ROOT_ONLY
def test_settings_win_over_what_is_there(site):
    plan = site.plan(1)
    cert, key = plan.files
    deploy(replace(plan, files=(cert, replace(key, mode=0o400, owner="nobody", group="65532"))))
    found = site.key.stat()
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o400, 65534, 65532)


def test_new_files_get_their_default_modes_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        site = Site(tmp_path)
        deploy(site.plan(1))
    finally:
        os.umask(before)
    assert site.cert.stat().st_mode & 0o777 == 0o644
    assert site.key.stat().st_mode & 0o777 == 0o600


def test_an_unknown_owner_is_named(site):
    plan = site.plan(1)
    cert, key = plan.files
    with pytest.raises(DeployFailed, match="no user no-such-user"):
        deploy(replace(plan, files=(cert, replace(key, owner="no-such-user"))))
    assert site.leftovers() == []


def test_a_symbolic_link_stays_one(site, tmp_path_factory):
    real = tmp_path_factory.mktemp("real") / "elsewhere.pem"
    real.write_bytes(b"cert 0")
    site.cert.unlink()
    site.cert.symlink_to(real)
    deploy(site.plan(1))
    assert site.cert.readlink() == real
    assert real.read_bytes() == b"cert 1"
    assert [p.name for p in real.parent.glob("*.certctl-bak.*")] != []


@pytest.mark.parametrize(
    ("retention", "kept"),
    [(0, 3), (1, 1), (2, 2), (-1, 0)],
)
def test_backups_are_pruned_to_the_retention(site, retention, kept):
    for number in range(1, 6):
        deploy(site.plan(number, backup_retention=retention))
    assert site.backups() == [b"cert %d" % n for n in range(5 - kept, 5)]


def test_without_retention_the_way_back_still_works(site):
    site = failing(site, "verify")
    with pytest.raises(DeployFailed) as failure:
        deploy(site.plan(1, backup_retention=-1))
    assert failure.value.rolled_back
    assert site.pair() == (b"cert 0", b"key 0")


def test_what_looks_like_a_backup_and_is_none_is_not_pruned(site):
    other = site.folder / "site.pem.certctl-bak.of-the-admin"
    other.write_bytes(b"mine")
    deploy(site.plan(1, backup_retention=-1))
    assert other.read_bytes() == b"mine"


def test_temporary_files_of_a_killed_run_are_removed(site):
    (site.folder / "site.key.certctl-tmp.1").write_bytes(b"a private key")
    deploy(site.plan(1))
    assert [p.name for p in site.folder.glob("*.certctl-tmp.*")] == []


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ((), "at least one file"),
        (("relative.pem",), "not an absolute path"),
        (("{}/a.pem", "{}/a.pem"), "the same file"),
        (("{}/a.pem", "{}/./a.pem"), "the same file"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path, paths, words):
    files = tuple(PlannedFile(Path(p.format(tmp_path)), b"x", 0o600) for p in paths)
    with pytest.raises(Invalid, match=words):
        deploy(FilePlan(files, validate=list, reload=list, verify=list))


@pytest.mark.parametrize(
    ("path", "words"),
    [("{}/absent/a.pem", "there is no folder"), ("{}", "Is a directory")],
)
def test_a_destination_that_cannot_be_written_is_told(tmp_path, path, words):
    plan = FilePlan(
        (PlannedFile(Path(path.format(tmp_path)), b"x", 0o600),),
        validate=list,
        reload=list,
        verify=list,
    )
    with pytest.raises(DeployFailed, match=words) as failure:
        deploy(plan)
    assert failure.value.rolled_back


def test_another_process_at_work_is_waited_for_and_then_told(site, monkeypatch):
    monkeypatch.setattr(engine, "LOCK_WAIT", 0.1)
    with (site.folder / "site.pem.certctl-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another deployment"):
            deploy(site.plan(1))
    assert deploy(site.plan(1)) is False


def test_threads_that_deploy_the_same_files_do_not_interleave(site):
    mixed: list[tuple[bytes, bytes]] = []

    def check() -> None:
        cert, key = site.pair()
        if cert.split()[1] != key.split()[1]:
            mixed.append((cert, key))

    def work(first: int) -> None:
        for number in range(first, first + 5):
            deploy(site.plan(number, validate=check, reload=check, verify=check))

    threads = [threading.Thread(target=work, args=(n * 10,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == []
    check()
    assert mixed == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"entries": [{"path": "/x"}]}'])
def test_a_damaged_journal_stops_the_deployment_with_words(site, content):
    journal = site.folder / "site.pem.certctl-journal"
    journal.write_bytes(content)
    journal.chmod(0o600)
    with pytest.raises(DeployFailed, match="is damaged") as failure:
        deploy(site.plan(1))
    assert not failure.value.rolled_back
    assert site.pair() == (b"cert 0", b"key 0")


def test_a_journal_that_others_could_have_written_is_not_believed(site):
    journal = site.folder / "site.pem.certctl-journal"
    journal.write_bytes(b'{"entries": []}')
    journal.chmod(0o666)
    with pytest.raises(DeployFailed, match="somebody else"):
        recover([site.cert])


def test_recovery_leaves_alone_what_someone_has_mended(site, rename_fails):
    rename_fails(3)
    site = failing(site, "validate")
    with pytest.raises(DeployFailed):
        deploy(site.plan(1))
    site.cert.write_bytes(b"by hand")
    recover([site.cert])
    assert site.pair() == (b"by hand", b"key 0")


def test_one_file_is_put_in_place_of_another_and_nothing_is_left_over(tmp_path):
    real, link = tmp_path / "real.ocsp", tmp_path / "link.ocsp"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    (tmp_path / "real.ocsp.certctl-tmp.1").write_bytes(b"of a killed run")
    put(PlannedFile(link, b"new", 0o644))
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "link.ocsp", "real.ocsp", "real.ocsp.certctl-lock",
    ]  # fmt: skip


def test_a_file_that_cannot_be_put_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "site.ocsp"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(engine.disk, "write_new", full)
    with pytest.raises(Unavailable, match="No space left"):
        put(PlannedFile(path, b"new", 0o644))
    assert path.read_bytes() == b"old"
