"""Keys that are not certified: compromised ones for good, others as long as operators want."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.pki import keys, x509
from certctl.services import issue
from tests import kit
from tests.web.kit import ORDER, Json, Site

SPKI = "0123456789abcdef" * 4
COMPROMISED = {"reason": "keyCompromise"}


def a_new_csr() -> str:
    return kit.a_csr("a.example.test", key=keys.generate(keys.KeyAlgorithm.ECDSA_P256))


async def block(site: Site, spki: str = SPKI) -> Json:
    return await site.post("/blocked-keys", {"spki_sha256": spki, "reason": "on a lost disk"})


async def blocked(site: Site, spki: str) -> list[Json]:
    found: list[Json] = (await site.get(f"/blocked-keys?spki_sha256={spki}"))["data"]
    return found


async def issued(site: Site, csr: str, name: str = "first") -> Any:
    row = await kit.order(site.world, name=name, csr_pem=csr)
    assert await issue.run(site.world.platform, await kit.job_of(site.world, row["id"]))
    return row["id"]


def ordering(csr: str) -> Json:
    return {**ORDER, "name": "again", "csr_pem": csr}


@pytest.fixture
def csr() -> str:
    return a_new_csr()


@pytest.fixture
def spki(csr: str) -> str:
    return x509.read_csr(csr).spki_sha256


async def test_a_key_that_was_compromised_is_never_certified_again(
    site: Site, csr: str, spki: str
) -> None:
    first = await issued(site, csr)
    await site.post(f"/certificates/{first}/revoke", COMPROMISED, status=200)
    (row,) = await blocked(site, spki)
    assert row["compromised"]
    assert first in row["reason"]
    refused = await site.refused(400, "POST", "/certificates", json=ordering(csr))
    assert refused["field"] == "csr_pem"
    assert "is compromised" in refused["message"]
    await site.refused(409, "DELETE", f"/blocked-keys/{row['id']}")
    fresh = {**ordering(a_new_csr()), "name": "with a new key"}
    await site.post("/certificates", fresh)


async def test_a_revocation_for_another_reason_blocks_nothing(
    site: Site, csr: str, spki: str
) -> None:
    first = await issued(site, csr)
    await site.post(f"/certificates/{first}/revoke", {"reason": "superseded"}, status=200)
    assert await blocked(site, spki) == []


async def test_a_bulk_revocation_blocks_every_key(site: Site) -> None:
    csrs = [a_new_csr() for _ in range(3)]
    ids = [await issued(site, each, f"site {n}") for n, each in enumerate(csrs)]
    body = {"certificate_ids": ids, **COMPROMISED}
    await site.post("/certificates/bulk-revoke", body, status=200)
    rows = (await site.get("/blocked-keys"))["data"]
    assert len(rows) == 3
    assert {row["spki_sha256"] for row in rows} == {x509.read_csr(c).spki_sha256 for c in csrs}


async def test_a_request_that_waits_is_refused_when_its_key_is_compromised_meanwhile(
    site: Site, csr: str
) -> None:
    first = await issued(site, csr)
    waiting = await kit.order(site.world, name="waiting", csr_pem=csr)
    job_id = await kit.job_of(site.world, waiting["id"])
    await site.post(f"/certificates/{first}/revoke", COMPROMISED, status=200)
    assert not await issue.run(site.world.platform, job_id)
    assert "compromised" in (await site.get(f"/jobs/{job_id}"))["last_error"]
    assert await kit.versions_of(site.world, waiting["id"]) == []


async def test_an_operator_blocks_a_key_and_releases_it(site: Site, csr: str, spki: str) -> None:
    row = await block(site, spki)
    assert not row["compromised"]
    assert await site.get(f"/blocked-keys/{row['id']}") == row
    body = {"spki_sha256": spki, "reason": "again"}
    assert (await site.refused(409, "POST", "/blocked-keys", json=body))["field"] == "spki_sha256"
    refused = await site.refused(400, "POST", "/certificates", json=ordering(csr))
    assert "is blocked" in refused["message"]
    await site.call("DELETE", f"/blocked-keys/{row['id']}")
    await site.post("/certificates", ordering(csr))
    assert {"key_blocked", "key_released"} <= set(await kit.actions(site.world))


async def test_a_blocked_key_that_is_compromised_stays_blocked(
    site: Site, csr: str, spki: str
) -> None:
    first = await issued(site, csr)
    row = await block(site, spki)
    await site.post(f"/certificates/{first}/revoke", COMPROMISED, status=200)
    (after,) = await blocked(site, spki)
    assert (after["id"], after["compromised"]) == (row["id"], True)
    await site.refused(409, "DELETE", f"/blocked-keys/{row['id']}")


@pytest.mark.parametrize("spki", ["", "00", SPKI.upper(), SPKI + "0", f" {SPKI[:-1]}"])
async def test_what_is_no_hash_is_refused_by_name(site: Site, spki: str) -> None:
    body = {"spki_sha256": spki, "reason": "lost"}
    assert (await site.refused(400, "POST", "/blocked-keys", json=body))["field"] == "spki_sha256"


async def test_an_agent_gets_no_client_certificate_for_it(site: Site, csr: str, spki: str) -> None:
    await block(site, spki)
    agent = await site.enrol("web-1")
    path = f"/agents/{agent['agent_id']}/client-certificate"
    refused = await site.refused(400, "POST", path, json={"csr_pem": csr}, key=agent["credential"])
    assert refused["field"] == "csr_pem"
