"""Every resource there is, asked for what cannot be: no failure of ours, no text to interpret.

Ids that name nothing, names and ids that are taken, references into nothing, and the deletion of
what others refer to.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest
import pytest_asyncio
from pydantic import BaseModel

from certctl.pki.x509 import make_ca_csr
from tests.enterprise import a_ca
from tests.foreign import a_leaf, full_pem
from tests.web.kit import NGINX, ORDER, ROWS, Json, Site, everything, filled, json_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_AGENTS = "/agents/{id}/"
RULE = {"name": "taken", "type": "AllowedEnvironments", "config": {"allowed": ["prod"]}}
# What creates one of each kind; the site adds the agent of a target.
BODIES: dict[str, Json] = {
    "/teams": {"name": "taken"},
    "/owners": {"name": "taken"},
    "/renewal-policies": {"name": "taken"},
    "/profiles": {"name": "taken"},
    "/issuers": {"name": "taken", "type": "GenericCA"},
    "/targets": {"name": "taken", "type": "NGINX", "config": NGINX},
    "/agent-groups": {"name": "taken"},
    "/policies": RULE,
    "/certificates": {**ORDER, "name": "taken"},
}
CORP = a_ca("Corp root")
CORP_CA = a_ca("Corp issuing", CORP)
CORP_FILES = {"certificate_pem": CORP_CA.pem, "chain_pem": CORP.pem}
OTHERS: dict[str, Json] = {
    "/certificates/import": {
        "owner_id": "o-default",
        "team_id": "t-default",
        "renewal_policy_id": "rp-default",
        "certificates": [{"pem": full_pem(a_leaf("a.example.test"))}],
    },
    "/lint-waivers": {
        "profile_id": "prof-default",
        "code": "pkix.sct_list_empty",
        "reason": "an old client",
        "ends_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    },
    "/auth/keys": {"name": "new"},
    "/issuers/{id}/intermediates": {"name": "new"},
    "/issuers/{id}/intermediates/import": {**CORP_FILES, "key_pem": CORP_CA.key_pem()},
    "/issuers/{id}/intermediates/csr": {"name": "new"},
    "/intermediates/{id}/install": CORP_FILES,
    "/intermediates/{id}/recertify": {"parent_ca_id": "ica-none"},
    "/intermediates/{id}/cutover": {"parent_ca_id": "ica-none"},
    "/intermediates/{id}/sign": {"csr_pem": make_ca_csr(CORP_CA.key, "new", 0)},
    "/auth/keys/{id}/roles": {"role_id": "r-viewer"},
    "/auth/roles/{id}/permissions": {"permission": "cert.read"},
    "/agents/enrolment-tokens": {},
    "/auth/breakglass/credentials": {"password": "a password for tests"},
    "/auth/oidc/group-mappings": {
        "provider_id": "none",
        "group_name": "new",
        "role_id": "r-viewer",
    },
}
NAMELESS = (
    "/lint-waivers",
    "/certificates/import",
    "/agents/enrolment-tokens",
    "/auth/breakglass/credentials",
    "/auth/oidc/group-mappings",
)
NO_REFERENCES = ("client_id",)  # a name at the provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ids(shared_site: Site) -> Json:
    """One of each kind by path, named `taken`, and each in use where it can be."""
    site, made = shared_site, {}
    agent = await site.enrol()
    bodies = {**BODIES, "/targets": {**BODIES["/targets"], "agent_id": agent["agent_id"]}}
    for path, body in bodies.items():
        if path != "/certificates":
            made[path] = (await site.post(path, body))["id"]
    bound = {
        "owner_id": made["/owners"],
        "team_id": made["/teams"],
        "issuer_id": made["/issuers"],
        "renewal_policy_id": made["/renewal-policies"],
        "certificate_profile_id": made["/profiles"],
        "target_ids": [made["/targets"]],
    }
    made["/certificates"] = (await site.post("/certificates", {**ORDER, **bound, "name": "taken"}))[
        "id"
    ]
    change = {"agent_group_id": made["/agent-groups"]}
    json_of(
        await site.call("PUT", f"/renewal-policies/{made['/renewal-policies']}", json=change), 200
    )
    role = await site.post("/auth/roles", {"name": "taken"})
    key = await site.post("/auth/keys", {"name": "taken"})
    tree = (await site.get("/issuers/iss-local/intermediates"))["data"]
    issuing = next(row["id"] for row in tree if row["parent_ca_id"])
    identities = {
        "/auth/roles": role["id"], "/auth/keys": key["name"], "/intermediates": issuing,
    }  # fmt: skip
    return {**made, **identities, "/agents": agent["agent_id"]}


async def body_of(site: Site, path: str) -> Json:
    """A body that would be taken, with another name than the one that is."""
    body = {**(BODIES | OTHERS)[path]}
    if path == "/targets":
        body["agent_id"] = site.agents["web1"]["agent_id"]
    return body


@pytest_asyncio.fixture(loop_scope="module")
async def unchanged(shared_site: Site, ids: Json) -> Any:
    before = await everything(shared_site.world)
    yield shared_site
    assert await everything(shared_site.world) == before


WITH_IDS = [
    (row.method, row.path) for row in ROWS if "{" in row.path and not row.path.startswith(OF_AGENTS)
]


@pytest.mark.parametrize(("method", "path"), WITH_IDS)
async def test_an_id_that_names_nothing_is_not_found_on_any_route(
    unchanged: Site, method: str, path: str
) -> None:
    body = OTHERS.get(path, {}) if method in {"POST", "PUT"} else None
    problem = await unchanged.refused(404, method, filled(path, "mc-none"), json=body)
    assert problem["error"] == "not_found"
    assert "mc-none" in problem["message"]


def references() -> list[tuple[str, str, str]]:
    """Method, path and field of every reference that a body may hold, by the models themselves."""
    found = []
    for row in ROWS:
        body = get_type_hints(row.handler).get("body")
        model = next((a for a in getattr(body, "__args__", (body,)) if is_model(a)), None)
        if model is None or row.path.startswith(OF_AGENTS) or "/bulk-" in row.path:
            continue
        fields = [name for name in model.model_fields if name.endswith(("_id", "_ids"))]
        fields = [name for name in fields if name not in NO_REFERENCES]
        found += [(row.method, row.path, field) for field in fields]
    return found


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


@pytest.mark.parametrize(("method", "path", "field"), references())
async def test_a_reference_into_nothing_is_refused_by_its_field(
    unchanged: Site, ids: Json, method: str, path: str, field: str
) -> None:
    bad = {field: ["none"] if field.endswith("_ids") else "none"}
    base = path.split("/{")[0]
    is_new = "{" not in path
    body = (
        {**(await body_of(unchanged, path)), "name": "new"}
        if is_new
        else dict(OTHERS.get(path, {}))
    )
    if path in NAMELESS:
        body.pop("name")
    if field == "scope_id":
        body["scope_type"] = "issuer"
    problem = await unchanged.refused(
        400, method, filled(path, ids.get(base, "none")), json={**body, **bad}
    )
    assert (problem["error"], problem["field"]) == ("invalid", field)


async def test_the_references_that_are_tried_are_those_of_every_resource() -> None:
    tried = {(path, field) for _, path, field in references()}
    assert {
        ("/owners/{id}", "team_id"),
        ("/targets", "agent_id"),
        ("/renewal-policies/{id}", "agent_group_id"),
        ("/agent-groups", "excluded_agent_ids"),
        ("/certificates", "target_ids"),
        ("/certificates/import", "issuer_id"),
        ("/auth/keys/{id}/roles", "scope_id"),
    } <= tried


@pytest.mark.parametrize("path", BODIES)
async def test_a_taken_id_is_a_conflict_of_every_resource(
    unchanged: Site, ids: Json, path: str
) -> None:
    body = {**(await body_of(unchanged, path)), "id": ids[path], "name": "new"}
    problem = await unchanged.refused(409, "POST", path, json=body)
    assert (problem["error"], problem["field"]) == ("conflict", "id")


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/owners"])
async def test_a_taken_name_is_a_conflict_of_every_resource(
    shared_site: Site, ids: Json, path: str
) -> None:
    body = await body_of(shared_site, path)
    problem = await shared_site.refused(409, "POST", path, json=body)
    assert (problem["error"], problem["field"]) == ("conflict", "name")
    other = await shared_site.post(path, {**body, "name": "free"})
    where = f"{path}/{other['id']}"
    problem = await shared_site.refused(409, "PUT", where, json={"name": "taken"})
    assert (problem["error"], problem["field"]) == ("conflict", "name")
    assert (await shared_site.get(where))["name"] == "free"
    await shared_site.call("DELETE", where)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("/teams", {"managed_certificates": 1}),
        ("/owners", {"managed_certificates": 1}),
        ("/renewal-policies", {"managed_certificates": 1}),
        ("/profiles", {"managed_certificates": 1}),
        ("/issuers", {"managed_certificates": 1}),
        ("/targets", {"certificate_target_mappings": 1}),
        ("/agent-groups", {"renewal_policies": 1}),
        ("/agents", {"active_targets": 1}),
    ],
)
async def test_what_others_refer_to_stays_and_so_do_they(
    unchanged: Site, ids: Json, path: str, counts: dict[str, int]
) -> None:
    problem = await unchanged.refused(409, "DELETE", f"{path}/{ids[path]}")
    assert problem["error"] == "conflict"
    assert counts.items() <= problem["counts"].items()
    assert (await unchanged.get(f"/certificates/{ids['/certificates']}"))["name"] == "taken"
    assert (await unchanged.get(f"{path}/{ids[path]}"))["id"] == ids[path]
