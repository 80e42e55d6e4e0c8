"""The first start with the CA of an enterprise root, and every start after it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain.errors import Unsafe
from certctl.pki import x509
from certctl.services import authority, firststart, issue, sealing, seeding
from certctl.services.firststart import ISSUER_ID
from certctl.services.seeding import Files
from certctl.store.db import Database
from tests import kit
from tests.conftest import PASSPHRASE, World, open_world
from tests.enterprise import CA, a_ca
from tests.web.test_ca_tree import verify

ROOT = a_ca("Corp root")
ISSUING = a_ca("Corp issuing", ROOT, path_length=0)


def files(folder: Path, ca: CA = ISSUING, *, above: str = ROOT.pem) -> Files:
    found = Files(folder / "ca.pem", folder / "ca.key")
    found.certificate.write_text(ca.pem + above)
    found.key.write_text(ca.key_pem())
    return found


@pytest.fixture
async def bare(empty_database: str) -> AsyncIterator[World]:
    """A platform that has its defaults and no CA yet."""
    db = Database(empty_database, max_size=2)
    await db.open()
    data_key = (await sealing.open_keyring(db, PASSPHRASE)).current
    await db.close()
    async for world in open_world(empty_database, data_key):
        await firststart.defaults(world.platform)
        yield world


async def ders(world: World) -> list[bytes]:
    found = await kit.rows(world, "SELECT cert_der FROM authorities ORDER BY created_at")
    return [bytes(row["cert_der"]) for row in found]


async def test_the_first_start_takes_the_ca_of_the_files(bare: World, tmp_path: Path) -> None:
    on = bare.platform
    await seeding.first_cas(on, files(tmp_path))
    assert await ders(bare) == [ROOT.der, ISSUING.der]
    row = await kit.order(bare, csr_pem=kit.a_csr("a.example.test"))
    assert await issue.run(on, await kit.job_of(bare, row["id"]))
    (version,) = await kit.versions_of(bare, row["id"])
    chain = x509.ders_of_pem(version["pem_chain"])
    assert "leaf.pem: OK" in verify(tmp_path, chain, ROOT.der)
    issuing = await authority.signing_authority_id(on, ISSUER_ID)
    held = await authority.service_certificate(on, issuing, "server", grace=timedelta(0))
    assert "leaf.pem: OK" in verify(tmp_path, [held.cert_der, *held.chain], ROOT.der)
    assert await authority.trust_anchor(on, ISSUER_ID) == ROOT.der


async def test_later_starts_leave_the_tree_alone_and_say_when_the_files_differ(
    bare: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on = bare.platform
    await seeding.first_cas(on, files(tmp_path))
    with caplog.at_level(logging.WARNING, logger="certctl.ca"):
        await seeding.first_cas(on, files(tmp_path))
        await seeding.first_cas(on, None)
        assert caplog.messages == []
        await seeding.first_cas(on, files(tmp_path, a_ca("Another", ROOT)))
        (other,) = caplog.messages
        assert "is none of issuer iss-local" in other
        (tmp_path / "ca.pem").unlink()
        await seeding.first_cas(on, Files(tmp_path / "ca.pem", tmp_path / "ca.key"))
        assert "cannot be read" in caplog.messages[-1]
    assert await ders(bare) == [ROOT.der, ISSUING.der]


async def test_a_tree_of_our_own_stays_when_files_come_later(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = await ders(world)
    with caplog.at_level(logging.WARNING, logger="certctl.ca"):
        await seeding.first_cas(world.platform, files(tmp_path))
    assert "is none of issuer" in caplog.text
    assert await ders(world) == before


@pytest.mark.parametrize(
    ("files_of", "words"),
    [
        (lambda at: files(at, above=""), "chain_pem: .*Corp root is missing"),
        (lambda at: files(at, ROOT, above=""), "is a root"),
        (lambda at: Files(files(at).certificate, at / "ca.pem"), "key_pem"),
        (lambda at: Files(files(at).certificate, at / "none"), "CERTCTL_CA_KEY_PATH: .* cannot"),
    ],
)
async def test_files_that_hold_no_usable_ca_stop_the_first_start(
    bare: World, tmp_path: Path, files_of: object, words: str
) -> None:
    with pytest.raises(Unsafe, match=words):
        await seeding.first_cas(bare.platform, files_of(tmp_path))  # type: ignore[operator]
    assert await ders(bare) == []
