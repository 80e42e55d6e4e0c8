"""Import and export as their callers meet them."""

from __future__ import annotations

import pytest

from certctl.pki import keys
from tests.foreign import a_leaf, full_pem
from tests.kit import a_csr
from tests.pki.made import a_key, openssl
from tests.web.kit import Site

BODY = {"owner_id": "o-default", "team_id": "t-default", "renewal_policy_id": "rp-default"}


def body(*pems: str, **changes) -> dict:
    return {**BODY, "certificates": [{"pem": pem} for pem in pems], **changes}


async def test_an_import_is_answered_entry_by_entry(site: Site):
    sent = body(full_pem(a_leaf("a.example.test")), "words")
    told = await site.post("/certificates/import", sent, status=200)
    assert {name: told[name] for name in told if name.startswith("total")} == {
        "total": 2, "total_imported": 1, "total_updated": 0, "total_unchanged": 0,
        "total_failed": 1,
    }  # fmt: skip
    first, second = told["data"]
    assert (first["outcome"], second["outcome"]) == ("imported", "failed")
    shown = await site.get(f"/certificates/{first['certificate_id']}")
    assert (shown["source"], shown["issuer_id"]) == ("import:pem", "iss-external")
    versions = await site.get(f"/certificates/{first['certificate_id']}/versions")
    assert "sealed_key" not in versions["data"][0]


async def test_a_private_key_is_a_400_that_does_not_repeat_it(site: Site):
    secret = keys.to_pem(a_key())
    told = await site.refused(400, "POST", "/certificates/import", json=body(secret))
    assert told["field"] == "certificates.0.pem"
    assert secret.splitlines()[1] not in str(told)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"certificates": []}, "certificates"),
        ({"certificates": [{"pem": "x"}] * 501}, "certificates"),
        ({"certificates": [{"pem": "x", "source": "Certbot!"}]}, "certificates.0.source"),
        ({"certificates": [{"pem": "x", "key": "y"}]}, "certificates.0.key"),
        ({"renewal_policy_id": None}, "renewal_policy_id"),
    ],
)
async def test_what_is_wrong_is_named(site: Site, changes, field):
    sent = {**body(full_pem(a_leaf("a.example.test"))), **changes}
    told = await site.refused(400, "POST", "/certificates/import", json=sent)
    assert told["field"] == field


async def issued(site: Site) -> str:
    """The id of a certificate that was issued for a CSR."""
    made = await site.order(csr_pem=a_csr("a.example.test"), name="*.shop")
    await site.world.run_tasks()
    return str(made["id"])


async def test_pem_is_exported_as_json_and_as_a_file(site: Site):
    path = f"/certificates/{await issued(site)}/export/pem"
    told = await site.get(path)
    assert told["full_pem"] == told["cert_pem"] + told["chain_pem"]
    file = await site.call("GET", f"{path}?download=true", declared=False)
    assert (file.status_code, file.text) == (200, told["full_pem"])
    assert file.headers["Content-Type"].startswith("application/x-pem-file")
    assert file.headers["Content-Disposition"] == 'attachment; filename="wildcard.shop.pem"'


async def test_a_pkcs12_is_exported_under_the_very_password(site: Site, tmp_path):
    path = f"/certificates/{await issued(site)}/export/pkcs12"
    answer = await site.call("POST", path, json={"password": " spaces stay "})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-pkcs12"
    file = tmp_path / "file.p12"
    file.write_bytes(answer.content)
    told = openssl("pkcs12", "-in", file, "-passin", "pass: spaces stay ", "-nokeys")
    assert told.returncode == 0, told.stdout
    assert (await site.call("POST", path)).status_code == 200
    told = await site.refused(409, "POST", path, json={"with_key": True})
    assert told["field"] == "with_key"


async def test_what_has_no_version_is_a_409_and_what_is_not_there_a_404(site: Site):
    waiting = await site.order()
    for path, method in (("export/pem", "GET"), ("export/pkcs12", "POST")):
        await site.refused(409, method, f"/certificates/{waiting['id']}/{path}")
        await site.refused(404, method, f"/certificates/mc-none/{path}")


async def test_a_viewer_reads_pem_and_nothing_more(site: Site):
    viewer = await site.key("r-viewer")
    path = f"/certificates/{await issued(site)}/export"
    await site.get(f"{path}/pem", key=viewer)
    await site.refused(403, "POST", f"{path}/pkcs12", key=viewer)
    await site.refused(403, "POST", "/certificates/import", key=viewer, json=body("x"))
