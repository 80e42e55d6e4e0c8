"""CAs whose keys live in a cloud's key service: created, issued from, revoked with, and away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certctl.boot.platform import Built
from certctl.boot.serve import readiness
from certctl.connectors.key_home import KeyHome
from certctl.domain.errors import Unsafe
from certctl.domain.revocation import Reason
from certctl.pki import x509
from certctl.services import crls, issue, revoke, signing, status
from certctl.settings import Settings, load
from certctl.store import migrate
from tests import kit
from tests.clouds.aws import Aws
from tests.clouds.aws import aws as aws
from tests.clouds.azure import Azure
from tests.clouds.azure import azure as azure
from tests.clouds.gcp import Gcp
from tests.clouds.gcp import gcp as gcp
from tests.clouds.server import Said, Server
from tests.conftest import World
from tests.pki.made import openssl
from tests.web.kit import Json, Site, open_site
from tests.web.test_ca_tree import leaf, make, root_of


@dataclass(frozen=True)
class Cloud:
    """`signatures` counts those that the service was asked for."""

    name: str
    server: Server
    open: Callable[[], KeyHome]
    signs: str

    @property
    def signatures(self) -> int:
        return sum(self.signs in f"{each.path} {each.headers}" for each in self.server.seen)


def aws_cloud(server: Aws) -> Cloud:
    return Cloud("aws-kms", server, server.open, "TrentService.Sign")


def gcp_cloud(server: Gcp) -> Cloud:
    return Cloud("gcp-kms", server, server.open, ":asymmetricSign")


def azure_cloud(server: Azure) -> Cloud:
    return Cloud("azure-key-vault", server, server.open, "/sign?")


CLOUDS: dict[str, Callable[[Any], Cloud]] = {
    "aws": aws_cloud,
    "gcp": gcp_cloud,
    "azure": azure_cloud,
}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return CLOUDS[request.param](request.getfixturevalue(request.param))


def with_home(world: World, cloud: Cloud) -> World:
    homes = {cloud.name: cloud.open()}
    return replace(world, platform=replace(world.platform, key_homes=homes))


@pytest.fixture
def site(world: World, cloud: Cloud) -> Site:
    return open_site(with_home(world, cloud))


async def in_cloud(site: Site, cloud: Cloud, **more: object) -> Json:
    parent = await root_of(site)
    return await make(site, "In the cloud", parent_ca_id=parent, key_home=cloud.name, **more)


async def files(site: Site, tmp_path: Path, made: Json, chain: list[bytes]) -> None:
    crl = (await crls.present(site.world.platform, made["id"])).der
    (tmp_path / "crl.der").write_bytes(crl)
    openssl("crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-out", tmp_path / "crl.pem")
    *_, root = x509.ders_of_pem(made["chain_pem"])
    for name, ders in (("leaf", chain[:1]), ("between", chain[1:]), ("root", [root])):
        (tmp_path / f"{name}.pem").write_text(x509.chain_pem(ders))


def judged(tmp_path: Path) -> str:
    return openssl(
        "verify", "-x509_strict", "-crl_check", "-CAfile", tmp_path / "root.pem",
        "-untrusted", tmp_path / "between.pem", "-CRLfile", tmp_path / "crl.pem",
        tmp_path / "leaf.pem",
    ).stdout  # fmt: skip


@pytest.mark.parametrize("algorithm", ["ECDSA-P256", "ECDSA-P384", "RSA-2048"])
async def test_openssl_takes_a_leaf_and_a_crl_of_a_ca_whose_key_is_in_a_cloud(
    site: Site, cloud: Cloud, tmp_path: Path, algorithm: str
) -> None:
    made = await in_cloud(site, cloud, algorithm=algorithm)
    assert (made["state"], made["key_home"], made["key_reference"]) == (
        "active", cloud.name, made["id"],
    )  # fmt: skip
    chain = await leaf(site)
    assert x509.facts(chain[1]).fingerprint_sha256 == made["fingerprint_sha256"]
    await files(site, tmp_path, made, chain)
    assert "leaf.pem: OK" in judged(tmp_path)
    (row,) = (await site.get("/certificates?name=www"))["data"]
    await revoke.one(site.world.platform, kit.ADMIN, row["id"], reason=Reason.SUPERSEDED)
    await crls.refresh(site.world.platform, made["id"], 0)
    await files(site, tmp_path, made, chain)
    assert "certificate revoked" in judged(tmp_path)


async def test_ocsp_asks_the_cloud_for_nothing(site: Site, cloud: Cloud) -> None:
    made = await in_cloud(site, cloud)
    chain = await leaf(site)
    answers = status.Responder(site.world.platform)
    serial = x509.facts(chain[0]).serial
    await answers.answer_serial(made["id"], serial)
    before = cloud.signatures
    assert before > 0
    for _ in range(5):
        await answers.answer_serial(made["id"], serial)
    assert cloud.signatures == before


async def test_while_a_cloud_is_away_only_its_own_ca_waits_and_then_goes_on(
    site: Site, cloud: Cloud
) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    made = await make(site, "Root", issuer["id"], key_home=cloud.name, path_len_constraint=0)
    platform = site.world.platform
    row = await kit.order(
        site.world, csr_pem=kit.a_csr("a.example.test"), issuer_id=issuer["id"], name="api"
    )
    job_id = await kit.job_of(site.world, row["id"])
    queue, conninfo = site.world.queue_app, site.world.conninfo
    told = readiness(Built(load({}), platform, platform, queue, conninfo), None)
    with cloud.server.away():
        assert not await issue.run(platform, job_id)
        job = await kit.job(site.world, job_id)
        assert (job["status"], "cannot be used" in job["last_error"]) == ("Pending", True)
        assert await leaf(site, name="of another CA")
        assert (await told())["signer"] == f"partly: CA {made['id']}: its key cannot be used"
    await kit.change(site.world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(platform, job_id)
    assert str(await signing.SelfTest(platform)()) == "ok"


async def test_a_cloud_that_is_away_while_a_ca_is_created_finishes_it_later(
    site: Site, cloud: Cloud
) -> None:
    body: Json = {"name": "Late", "parent_ca_id": await root_of(site), "key_home": cloud.name}
    with cloud.server.failing(Said({}, 503)):
        await site.refused(503, "POST", "/issuers/iss-local/intermediates", json=body)
    made = await site.post("/issuers/iss-local/intermediates", body)
    assert made["state"] == "active"


async def test_probes_do_not_run_up_a_bill(
    site: Site, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_cloud(site, cloud)
    probe = signing.SelfTest(site.world.platform)
    monkeypatch.setattr(signing, "KEPT", 0.0)
    before = cloud.signatures
    assert [str(await probe()) for _ in range(5)] == ["ok"] * 5
    assert cloud.signatures == before + 1
    assert cloud.open().kept >= timedelta(minutes=1)


async def test_a_key_of_a_kind_that_the_cloud_has_not_is_refused_by_its_field(
    site: Site, cloud: Cloud
) -> None:
    body: Json = {"name": "odd", "parent_ca_id": await root_of(site), "key_home": cloud.name}
    path = "/issuers/iss-local/intermediates"
    problem = await site.refused(400, "POST", path, json={**body, "algorithm": "Ed25519"})
    assert problem["field"] == "algorithm"


async def test_a_server_that_is_not_told_of_the_cloud_names_the_settings(
    world: World, site: Site, cloud: Cloud
) -> None:
    made = await in_cloud(site, cloud)
    verdict = await signing.SelfTest(world.platform)()
    setting = f"CERTCTL_{cloud.name.upper().replace('-', '_')}_*"
    assert verdict.away == {
        made["id"]: f"this server is not told of a key home {cloud.name}: set {setting}"
    }
    begins = setting.removeprefix("CERTCTL_").removesuffix("*").lower()
    assert any(field.startswith(begins) for field in Settings.model_fields)


async def test_a_ca_whose_key_is_in_a_cloud_forbids_the_way_back(site: Site, cloud: Cloud) -> None:
    made = await in_cloud(site, cloud)
    with pytest.raises(Unsafe, match="000020_cloud_key_homes"):
        await migrate.rollback(site.world.conninfo, 19)
    where = "SELECT key_home FROM authorities WHERE id = %(id)s"
    assert await kit.value(site.world, where, id=made["id"]) == cloud.name
