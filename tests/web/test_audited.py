"""Every route that changes something leaves a row in the audit trail, and so do privileged reads:
one walk calls each of them, and a route that is new and not on the walk is found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from certctl.connectors import catalog
from certctl.services import issue, notify
from tests import kit
from tests.audited import export, seal_all
from tests.connectors.kit import LOOPBACK
from tests.connectors.receiver import receiving
from tests.enterprise import a_ca, signed
from tests.foreign import a_leaf, full_pem
from tests.oidc.fake import FakeProvider
from tests.oidc.served import served
from tests.people import PASSWORD, Browser, a_person
from tests.web.kit import NGINX, ORDER, ROWS, Json, Site, open_site, row_for
from tests.web.test_notifications import bury, notified
from tests.web.test_resources import RESOURCES

Name = tuple[str, str]
# Changes that are not audited, and why.
EXEMPT: dict[Name, str] = {
    ("POST", "/agents/{id}/heartbeat"): "a sign of life each minute, kept in the agent's own row",
}
PRIVILEGED_READS: dict[Name, str] = {
    ("GET", "/audit/export"): "audit_exported",
    ("GET", "/auth/keys"): "api_keys_listed",
    ("GET", "/agents/enrolment-tokens"): "enrolment_tokens_listed",
    ("GET", "/certificates/{id}/export/pem"): "certificate_exported",
}
MORE = {
    "/agent-groups": ({"name": "linux", "match_os": "linux"}, {"enabled": False}),
    "/policies": (
        {"name": "where", "type": "AllowedEnvironments", "config": {"allowed": ["prod"]}},
        {"enabled": False},
    ),
}


@dataclass
class Walk:
    """Calls with what they were answered, by the declared route."""

    site: Site
    called: dict[Name, set[str]] = field(default_factory=dict)

    async def call(self, method: str, path: str, json: Any = None, **how: Any) -> httpx.Response:
        answer = await self.site.call(method, path, json=json, **how)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        row = row_for(method, f"/api/v1{path.partition('?')[0]}")
        assert row is not None
        ids = self.called.setdefault((row.method, row.path), set())
        ids.add(answer.headers["X-Request-ID"])
        return answer

    async def post(self, path: str, json: Any = None, **how: Any) -> Json:
        answer = await self.call("POST", path, json, **how)
        return answer.json() if answer.content else {}

    async def unaudited(self) -> set[Name]:
        """Routes of which some call left no row with its request's id."""
        found = await kit.rows(self.site.world, "SELECT DISTINCT request_id FROM audit_events")
        told = {row["request_id"] for row in found}
        return {name for name, ids in self.called.items() if ids - told}


async def plain_resources(walk: Walk) -> None:
    agent = await walk.site.enrol("plain")
    for path, (sent, change) in {**RESOURCES, **MORE}.items():
        more = {"agent_id": agent["agent_id"]} if path == "/targets" else {}
        row_id = (await walk.post(path, {**sent, **more}))["id"]
        await walk.call("PUT", f"{path}/{row_id}", change)
        await walk.call("DELETE", f"{path}/{row_id}")
    root = (await walk.site.get("/issuers/iss-local/intermediates"))["data"][0]
    body = {"name": "successor", "parent_ca_id": root["id"]}
    await walk.post("/issuers/iss-local/intermediates", body)
    (old,) = [
        row["id"]
        for row in (await walk.site.get("/issuers/iss-local/intermediates"))["data"]
        if row["name"] == "certctl issuing CA"
    ]
    above = {"name": "new root", "replaces": root["id"]}
    new = await walk.post("/issuers/iss-local/intermediates", above)
    for step in ("recertify", "cutover"):
        await walk.post(f"/intermediates/{old}/{step}", {"parent_ca_id": new["id"]})
    await walk.post(f"/intermediates/{old}/retire")
    await cas_from_outside(walk)
    key = await walk.post("/blocked-keys", {"spki_sha256": "0" * 64, "reason": "lost"})
    await walk.call("DELETE", f"/blocked-keys/{key['id']}")


async def cas_from_outside(walk: Walk) -> None:
    issuer = (await walk.post("/issuers", {"name": "corp", "type": "GenericCA"}))["id"]
    where = f"/issuers/{issuer}/intermediates"
    root = a_ca("Corp root")
    ca = a_ca("Corp issuing", root, path_length=0)
    sent = {"certificate_pem": ca.pem, "chain_pem": root.pem}
    await walk.post(f"{where}/import", {**sent, "key_pem": ca.key_pem()})
    asked = await walk.post(f"{where}/csr", {"name": "by CSR"})
    asked_for = await walk.post(f"{where}/csr", {"name": "outside"})
    top = next(
        row["id"]
        for row in (await walk.site.get("/issuers/iss-local/intermediates"))["data"]
        if row["parent_ca_id"] is None
    )
    made = await walk.post(f"/intermediates/{top}/sign", {"csr_pem": asked_for["csr_pem"]})
    await walk.post(f"/intermediates/{made['id']}/revoke")
    sent["certificate_pem"] = signed(asked["csr_pem"], root).pem
    await walk.post(f"/intermediates/{asked['id']}/install", sent)


async def access(walk: Walk) -> None:
    role = (await walk.post("/auth/roles", {"name": "readers"}))["id"]
    await walk.call("PUT", f"/auth/roles/{role}", {"description": "who reads"})
    await walk.post(f"/auth/roles/{role}/permissions", {"permission": "cert.read"})
    await walk.post("/auth/keys", {"name": "ci"})
    await walk.post("/auth/keys/ci/rotate")
    await walk.post("/auth/keys/ci/roles", {"role_id": role})
    await walk.call("GET", "/auth/keys")
    await walk.call("DELETE", f"/auth/keys/ci/roles/{role}")
    await walk.call("DELETE", "/auth/keys/ci")
    await walk.call("DELETE", f"/auth/roles/{role}/permissions/cert.read")
    await walk.call("DELETE", f"/auth/roles/{role}")


async def agents(walk: Walk) -> None:
    token = (await walk.post("/agents/enrolment-tokens", {}))["id"]
    await walk.call("GET", "/agents/enrolment-tokens")
    await walk.call("DELETE", f"/agents/enrolment-tokens/{token}")
    agent = await walk.site.enrol("leaving")
    where, key = f"/agents/{agent['agent_id']}", agent["credential"]
    beat = {"version": "1", "hostname": "h", "os": "linux", "architecture": "x", "ip_address": ""}
    await walk.post(f"{where}/heartbeat", beat, key=key)
    await walk.post(f"{where}/credential", key=key)
    csr = {"csr_pem": kit.a_csr("any.example.test")}
    await walk.post(f"{where}/client-certificate", csr, key=key)
    await walk.call("DELETE", f"{where}/credential")
    await walk.call("DELETE", where)


async def deployments(walk: Walk) -> str:
    """A certificate on an agent, through both of the agent's calls; its id."""
    site = walk.site
    agent = await site.enrol()
    target_id = (await site.target(agent))["id"]
    made = await walk.post("/certificates", {**ORDER, "name": "served", "target_ids": [target_id]})
    where, key = f"/agents/{agent['agent_id']}", agent["credential"]
    (item,) = (await site.work(agent))["jobs"]
    csr = kit.a_csr(*item["sans"])
    await walk.post(f"{where}/csr", {"csr_pem": csr, "job_id": item["id"]}, key=key)
    assert await issue.run(site.world.platform, item["id"])
    (item,) = (await site.work(agent))["jobs"]
    said = {"status": "Completed", "fingerprint_sha256": item["fingerprint_sha256"]}
    await walk.post(f"{where}/jobs/{item['id']}/status", said, key=key)
    return str(made["id"])


async def certificates(walk: Walk, served: str) -> None:
    where = f"/certificates/{served}"
    await walk.call("PUT", where, {"environment": "prod"})
    await walk.post(f"{where}/deploy", {})
    await walk.call("GET", f"{where}/export/pem")
    await walk.call("POST", f"{where}/export/pkcs12", {"with_key": False})
    pem = full_pem(a_leaf("import.example.test"))
    people = {"owner_id": "o-default", "team_id": "t-default"}
    body = {**people, "watched": True, "certificates": [{"pem": pem}]}
    await walk.post("/certificates/import", body)
    chosen = {"certificate_ids": [served]}
    await walk.post("/certificates/bulk-reassign", {**chosen, "owner_id": "o-default"})
    await walk.post("/certificates/bulk-renew", chosen)
    await walk.post(f"{where}/revoke", {"reason": "superseded"})
    await walk.post("/certificates/bulk-revoke", {**chosen, "reason": "superseded"})
    await walk.call("DELETE", where)


async def jobs(walk: Walk) -> None:
    site = walk.site
    agent = await site.enrol("working")
    made = await site.order(name="jobs", target_ids=[(await site.target(agent, name="t"))["id"]])
    (job,) = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
    await walk.post(f"/jobs/{job['id']}/cancel")
    await walk.post(f"/certificates/{made['id']}/renew", {"force": True})
    (job,) = (await site.get(f"/jobs?certificate_id={made['id']}&status=AwaitingCSR"))["data"]
    await kit.change(
        site.world, "UPDATE jobs SET status = 'Failed' WHERE id = %(id)s", id=job["id"]
    )
    await walk.post(f"/jobs/{job['id']}/retry")


async def decisions(walk: Walk) -> None:
    site = walk.site
    profile = await kit.a_profile(site.world, name="guarded", requires_approval=True)
    second = await site.key("r-operator")
    for name, decision in enumerate(("approve", "reject", "job-approve", "job-reject")):
        changes = {"name": f"guarded-{name}", "certificate_profile_id": profile}
        made = await site.order(**changes, csr_pem=kit.a_csr("a.example.test"))
        (job,) = (await site.get(f"/jobs?certificate_id={made['id']}"))["data"]
        found = await site.get(f"/approvals?certificate_id={made['id']}")
        kind, _, word = decision.rpartition("-")
        where = f"/jobs/{job['id']}" if kind else f"/approvals/{found['data'][0]['id']}"
        await walk.post(f"{where}/{word}", {}, key=second)


async def lint_waivers(walk: Walk) -> None:
    second = await walk.site.key("r-cli")
    body = {
        "profile_id": "prof-default",
        "code": "pkix.sct_list_empty",
        "reason": "an old client",
        "ends_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    for decision in ("approve", "reject"):
        asked = (await walk.post("/lint-waivers", body))["id"]
        await walk.post(f"/lint-waivers/{asked}/{decision}", {"note": "so be it"}, key=second)
        if decision == "approve":
            await walk.post(f"/lint-waivers/{asked}/withdraw")


async def messages(walk: Walk) -> None:
    site = walk.site
    await notified(site, "job-1", "job-2")
    first, second = (await site.get("/notifications"))["data"]
    await bury(site)
    await walk.post(f"/notifications/{first['id']}/requeue")
    await notify.send_due(site.world.platform)
    await walk.post(f"/notifications/{first['id']}/read")
    assert second
    await walk.post("/digest/send")
    await walk.post("/issuers/iss-local/test")


async def people(walk: Walk) -> None:
    site, provider = walk.site, FakeProvider()
    async with served(provider) as port:
        provider.issuer = f"http://127.0.0.1:{port}"
        body = {
            "name": "SSO",
            "issuer_url": provider.issuer,
            "client_id": "certctl",
            "client_secret": "a secret of the client",
            "redirect_uri": "https://certctl.test/auth/oidc/callback",
        }
        await walk.post("/auth/oidc/test", {"issuer_url": provider.issuer})
        path = f"/auth/oidc/providers/{(await walk.post('/auth/oidc/providers', body))['id']}"
        await walk.post(f"{path}/refresh")
    await walk.call("PUT", path, {"name": "SSO again"})
    mapping = {"provider_id": path.rpartition("/")[2], "group_name": "ops", "role_id": "r-viewer"}
    made = await walk.post("/auth/oidc/group-mappings", mapping)
    await walk.call("DELETE", f"/auth/oidc/group-mappings/{made['id']}")
    await walk.call("DELETE", path)
    ada = await a_person(site.world, "ada", "r-admin")
    await walk.post("/auth/breakglass/credentials", {"actor_id": ada, "password": PASSWORD})
    credential = f"/auth/breakglass/credentials/{ada}"
    await walk.post(f"{credential}/unlock")
    first, second = Browser(site), Browser(site)
    for browser in (first, second):
        assert (await browser.log_in(ada)).status_code == 204
    headers = {
        "Cookie": f"__Host-certctl_session={second.session}",
        "X-CSRF-Token": second.csrf,
    }
    await walk.call("DELETE", "/auth/sessions?except=current", key=None, headers=headers)
    (session,) = (await site.get("/auth/sessions"))["sessions"]
    await walk.call("DELETE", f"/auth/sessions/{session['id']}")
    await walk.call("DELETE", credential)
    await walk.call("DELETE", f"/auth/users/{ada}")
    await walk.post(f"/auth/users/{ada}/reactivate")


async def test_every_change_and_every_privileged_read_is_audited(site: Site) -> None:
    async with receiving() as receiver:
        channel = catalog.open_notifier(
            "Webhook", {"url": receiver.url, "secret": "s" * 32}, reach=LOOPBACK
        )
        platform = replace(site.world.platform, notifiers={"Webhook": channel}, reach=LOOPBACK)
        opened = open_site(replace(site.world, platform=platform))
        async with opened.client:
            walk = Walk(opened)
            await messages(walk)
            await plain_resources(walk)
            await access(walk)
            await agents(walk)
            await people(walk)
            deployed = await deployments(walk)
            await jobs(walk)
            await decisions(walk)
            await lint_waivers(walk)
            await certificates(walk, deployed)
            await walk.call("GET", "/audit/export")
            changing = {(row.method, row.path) for row in ROWS if row.method != "GET"}
            assert changing - set(walk.called) == set(), "put the new route on the walk"
            assert await walk.unaudited() == set(EXEMPT)


@pytest.mark.parametrize(("name", "action"), PRIVILEGED_READS.items())
async def test_a_privileged_read_says_who_looked(site: Site, name: Name, action: str) -> None:
    made, _ = await site.served()
    path = name[1].replace("{id}", made["id"])
    answer = await site.call("GET", path)
    assert answer.status_code == 200
    (row,) = await kit.rows(
        site.world, "SELECT * FROM audit_events WHERE action = %(action)s", action=action
    )
    assert (row["actor"], row["request_id"]) == ("admin", answer.headers["X-Request-ID"])


async def test_no_secret_that_a_caller_was_given_is_in_the_audit_trail(site: Site) -> None:
    """Keys, tokens, credentials and passwords; configurations have tests of their own."""
    key = await site.post("/auth/keys", {"name": "ci"})
    again = await site.post("/auth/keys/ci/rotate", {})
    token = await site.post("/agents/enrolment-tokens", {})
    made, agent = await site.served()
    password = "a password of a file"
    await site.call(
        "POST", f"/certificates/{made['id']}/export/pkcs12", json={"password": password}
    )
    await seal_all(site.world)
    dump = b"".join(await export(site.world)).decode()
    secrets = (key["key_value"], again["key_value"], token["token"], agent["credential"], password)
    for secret in secrets:
        assert secret not in dump
        assert secret.partition(".")[0] not in dump
    assert "PRIVATE KEY" not in dump
    assert NGINX["cert_path"] in dump
