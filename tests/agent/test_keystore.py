"""Private keys on the host: never overwritten, promoted when in service, pruned with care."""

from __future__ import annotations

import os

import pytest

from certctl.agent.keystore import KeyStore
from certctl.domain.errors import Invalid, Unsafe
from certctl.pki.keys import KeyAlgorithm, key_facts, spki_sha256

P256 = KeyAlgorithm.ECDSA_P256


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "keys")


def made(store: KeyStore, job: str, *, age: int = 0):
    """The file of a new key, `age` steps in the past."""
    key = store.key_for("mc-1", job, algorithm=P256)
    path = store.find("mc-1", spki_sha256(key.public_key()))
    os.utime(path, ns=(10**18 - age, 10**18 - age))
    return path


def names(store: KeyStore) -> set[str]:
    return {path.name for path in (store.folder / "mc-1").iterdir() if not path.is_symlink()}


def test_keys_and_folders_are_private(store):
    path = made(store, "job-1")
    assert path == store.folder / "mc-1" / "job-1.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_job_keeps_its_key_across_restarts(store):
    first = store.key_for("mc-1", "job-1", algorithm=P256)
    again = KeyStore(store.folder).key_for("mc-1", "job-1", algorithm=P256)
    assert spki_sha256(first.public_key()) == spki_sha256(again.public_key())


def test_every_job_has_a_key_of_its_own(store):
    keys = [store.key_for("mc-1", job, algorithm=P256) for job in ("job-1", "job-2")]
    assert len({spki_sha256(key.public_key()) for key in keys}) == 2


@pytest.mark.parametrize("algorithm", [P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ED25519])
def test_the_algorithm_asked_for_is_made(store, algorithm):
    key = store.key_for("mc-1", "job-1", algorithm=algorithm)
    facts = key_facts(key.public_key())
    assert f"{facts.algorithm}{facts.size}" in {"ECDSA256", "ECDSA384", "Ed25519256"}
    assert (algorithm is KeyAlgorithm.ED25519) == (facts.algorithm == "Ed25519")


@pytest.mark.parametrize("bad", ["..", "a/b", "", "x" * 129, "a\nb"])
def test_ids_cannot_leave_the_folder(store, bad):
    with pytest.raises(Invalid):
        store.key_for(bad, "job-1", algorithm=P256)
    with pytest.raises(Invalid):
        store.key_for("mc-1", bad, algorithm=P256)
    with pytest.raises(Invalid):
        store.find(bad, "00")


@pytest.mark.parametrize("job", ["current", "previous"])
def test_a_job_cannot_be_named_like_a_link(store, job):
    with pytest.raises(Invalid):
        store.key_for("mc-1", job, algorithm=P256)


def test_a_key_that_is_not_there_is_not_found(store):
    assert store.find("mc-1", "00" * 32) is None
    assert list(store.folder.iterdir()) == []


def test_a_damaged_key_does_not_hide_the_others(store):
    sound = store.key_for("mc-1", "job-2", algorithm=P256)
    (store.folder / "mc-1" / "job-1.key").write_bytes(b"\xff damaged")
    assert store.find("mc-1", spki_sha256(sound.public_key())).name == "job-2.key"


def test_promotion_points_the_link_and_leaves_the_keys_alone(store):
    path = made(store, "job-1")
    content = path.read_bytes()
    assert store.current("mc-1") is None
    store.promote("mc-1", path)
    assert store.current("mc-1") == path
    assert (store.folder / "mc-1" / "current.key").read_bytes() == content
    assert path.read_bytes() == content


def test_current_predecessor_and_younger_keys_survive_pruning(store):
    for number in range(1, 5):
        made(store, f"job-{number}", age=10 - number)
    paths = {n: store.folder / "mc-1" / f"job-{n}.key" for n in range(1, 5)}
    store.promote("mc-1", paths[1])
    assert names(store) == {"job-1.key", "job-2.key", "job-3.key", "job-4.key"}
    store.promote("mc-1", paths[2])
    assert names(store) == {"job-1.key", "job-2.key", "job-3.key", "job-4.key"}
    store.promote("mc-1", paths[3])
    assert names(store) == {"job-2.key", "job-3.key", "job-4.key"}


def test_promoting_the_same_key_again_keeps_the_predecessor(store):
    old, new = made(store, "job-1", age=2), made(store, "job-2", age=1)
    store.promote("mc-1", old)
    store.promote("mc-1", new)
    store.promote("mc-1", new)
    assert names(store) == {"job-1.key", "job-2.key"}


def test_what_a_killed_run_left_unfinished_is_removed(store):
    made(store, "job-1")
    (store.folder / "mc-1" / ".tmp-job-2.key.aaaa").write_bytes(b"half a key")
    made(store, "job-2")
    assert names(store) == {"job-1.key", "job-2.key"}


def test_a_folder_that_others_may_write_to_is_refused_and_not_changed(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(Unsafe, match="CERTCTL_KEY_DIR"):
        KeyStore(folder)
    assert folder.stat().st_mode & 0o777 == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")
def test_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(Unsafe, match="another user"):
        KeyStore(folder)
