"""Export: what is handed out, judged by openssl, and what never is."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Conflict, Invalid, NotAllowed, NotFound, Unsafe
from certctl.pki import keys
from certctl.pki.sealing import Place
from certctl.pki.x509 import ders_of_pem
from certctl.services import export
from tests.conftest import World
from tests.kit import ADMIN, VIEWER, a_key, an_issued_certificate, change, order, rows, versions_of
from tests.pki.made import openssl

PASSWORD = " päss word 9 "


async def a_held_certificate(world: World) -> tuple[str, str]:
    """A certificate whose key the server holds, and that key in PEM."""
    row = await an_issued_certificate(world)
    (version,) = await versions_of(world, row["id"])
    key = keys.to_pem(a_key())
    place = Place("certificate_versions", "sealed_key", version["id"])
    await change(
        world,
        "UPDATE certificate_versions SET sealed_key = %(sealed)s WHERE id = %(id)s",
        sealed=world.platform.data_key.seal(key.encode(), place),
        id=version["id"],
    )
    return row["id"], key


async def exported(world: World) -> list[dict]:
    found = await rows(
        world,
        "SELECT actor, details FROM audit_events WHERE action = 'certificate_exported' "
        "ORDER BY sequence",
    )
    return [{"actor": row["actor"], **row["details"]} for row in found]


async def test_pem_is_the_newest_live_version_in_parts(world):
    row = await an_issued_certificate(world)
    (version,) = await versions_of(world, row["id"])
    found = await export.pem(world.platform, ADMIN, row["id"])
    assert found.full_pem == version["pem_chain"]
    assert ders_of_pem(found.cert_pem) == ders_of_pem(version["pem_chain"])[:1]
    assert ders_of_pem(found.chain_pem) == ders_of_pem(version["pem_chain"])[1:]
    (event,) = await exported(world)
    assert (event["actor"], event["form"], event["with_key"]) == ("admin", "pem", False)


async def test_openssl_opens_a_pkcs12_without_a_key(world, tmp_path):
    row = await an_issued_certificate(world)
    name, made = await export.pkcs12(
        world.platform, ADMIN, row["id"], password=PASSWORD, with_key=None
    )
    file = tmp_path / f"{name}.p12"
    file.write_bytes(made)
    told = openssl("pkcs12", "-info", "-in", file, "-passin", f"pass:{PASSWORD}", "-nodes")
    assert told.returncode == 0, told.stdout
    assert told.stdout.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE KEY" not in told.stdout
    assert "PBES2, PBKDF2, AES-256-CBC" in told.stdout
    assert "hmacWithSHA256" in told.stdout


async def test_a_held_key_is_in_the_pkcs12_and_is_the_key(world, tmp_path):
    certificate_id, key = await a_held_certificate(world)
    with pytest.raises(Invalid) as refusal:
        await export.pkcs12(world.platform, ADMIN, certificate_id, password="short", with_key=None)
    assert refusal.value.field == "password"
    assert await exported(world) == []
    _, made = await export.pkcs12(
        world.platform, ADMIN, certificate_id, password=PASSWORD, with_key=None
    )
    file = tmp_path / "with-key.p12"
    file.write_bytes(made)
    told = openssl("pkcs12", "-in", file, "-passin", f"pass:{PASSWORD}", "-nodes", "-nocerts")
    assert told.returncode == 0, told.stdout
    assert key in told.stdout
    (event,) = await exported(world)
    assert (event["form"], event["with_key"]) == ("pkcs12", True)
    assert key.splitlines()[1] not in str(event)


async def test_a_held_key_stays_out_when_it_is_not_wanted(world, tmp_path):
    certificate_id, _ = await a_held_certificate(world)
    _, made = await export.pkcs12(
        world.platform, ADMIN, certificate_id, password="", with_key=False
    )
    file = tmp_path / "without.p12"
    file.write_bytes(made)
    told = openssl("pkcs12", "-in", file, "-passin", "pass:", "-nodes")
    assert told.stdout.count("BEGIN CERTIFICATE") == 2, told.stdout
    assert "PRIVATE KEY" not in told.stdout


async def test_a_key_that_is_elsewhere_cannot_be_asked_for(world):
    row = await an_issued_certificate(world)
    with pytest.raises(Conflict, match="does not hold this key"):
        await export.pkcs12(world.platform, ADMIN, row["id"], password=PASSWORD, with_key=True)


async def test_a_sealed_key_that_was_moved_does_not_open(world):
    first, _ = await a_held_certificate(world)
    second = await an_issued_certificate(world, name="other", common_name="b.example.test")
    await change(
        world,
        """UPDATE certificate_versions SET sealed_key = (SELECT sealed_key FROM certificate_versions
           WHERE certificate_id = %(first)s) WHERE certificate_id = %(second)s""",
        first=first,
        second=second["id"],
    )
    with pytest.raises(Unsafe, match="does not open"):
        await export.pkcs12(world.platform, ADMIN, second["id"], password=PASSWORD, with_key=None)


async def test_nothing_is_exported_of_what_does_not_exist(world):
    with pytest.raises(NotFound):
        await export.pem(world.platform, ADMIN, "mc-none")
    row = await order(world)
    with pytest.raises(Conflict, match="no live version"):
        await export.pem(world.platform, ADMIN, row["id"])
    with pytest.raises(Conflict, match="no live version"):
        await export.pkcs12(world.platform, ADMIN, row["id"], password=PASSWORD, with_key=None)
    assert await exported(world) == []


async def test_a_viewer_gets_the_certificate_and_not_the_file_that_may_hold_a_key(world):
    row = await an_issued_certificate(world)
    assert (await export.pem(world.platform, VIEWER, row["id"])).cert_pem
    with pytest.raises(NotAllowed):
        await export.pkcs12(world.platform, VIEWER, row["id"], password=PASSWORD, with_key=False)
    assert [event["actor"] for event in await exported(world)] == ["viewer"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("*.example.test", "wildcard.example.test"),
        ("../../etc/passwd", "etc_passwd"),
        ('a"\r\nb', "a_b"),
        ("日本", "certificate"),
    ],
)
def test_a_file_is_named_as_every_system_allows(name, safe):
    assert export.file_name(name) == safe
