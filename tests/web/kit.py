"""The app as its callers meet it: every request through the front door, every answer compared
with what the route declares."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
from pydantic import TypeAdapter

from certctl.domain.access import Actor
from certctl.domain.errors import Unauthenticated
from certctl.services import issue
from certctl.services.access import Authenticator, SignedIn, secret_hash
from certctl.services.platform import EnvironmentKey, Platform
from certctl.store.db import Row
from certctl.web import app, gate
from certctl.web.app import Budgets, management_door
from certctl.web.callers import Authenticate
from certctl.web.front import Rules
from certctl.web.problems import Problem
from tests.conftest import World
from tests.kit import a_csr, an_api_key

Json = dict[str, Any]
ADMIN: Final = "the key of the administrator"
BOSS: Final = EnvironmentKey("admin", secret_hash(ADMIN), admin=True)
UNLIMITED: Final = Budgets(None, None, None, max_body=1_048_576)
ROWS: Final = tuple(row for resource in app.RESOURCES for row in resource.routes)
ADDRESS: Final = "192.0.2.9"
# Any route may be asked with a wrong method or a body that is not JSON.
ALWAYS: Final = {*gate.ALWAYS, 400}


def filled(path: str, value: str = "none") -> str:
    """The path with `value` for each parameter."""
    return re.sub(r"\{\w+\}", value, path)


def row_for(method: str, path: str) -> gate.Route | None:
    """The declared route of a request."""
    for row in ROWS:
        pattern = re.sub(r"\{\w+\}", "[^/]+", gate.PREFIX + row.path)
        if row.method == method and re.fullmatch(pattern, path):
            return row
    return None


@dataclass
class Site:
    """A caller's view of one control plane; `agents` holds what has enrolled, by name."""

    world: World
    client: httpx.AsyncClient
    agents: dict[str, Json] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, *, key: str | None = ADMIN, **how: Any
    ) -> httpx.Response:
        """Ask below /api/v1 and compare the answer with the declared route."""
        headers = dict(how.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        declared = how.pop("declared", True)
        answer = await self.client.request(method, gate.PREFIX + path, headers=headers, **how)
        assert answer.headers["X-Request-ID"]
        if declared:
            check_declared(answer)
        return answer

    async def get(self, path: str, **how: Any) -> Json:
        return json_of(await self.call("GET", path, **how), 200)

    async def post(self, path: str, json: Any, *, status: int = 201, **how: Any) -> Json:
        return json_of(await self.call("POST", path, json=json, **how), status)

    async def refused(self, status: int, method: str, path: str, **how: Any) -> Json:
        """The envelope of a refusal with this status."""
        answer = await self.call(method, path, **how)
        problem = json_of(answer, status)
        Problem.model_validate(problem)
        assert problem["request_id"] == answer.headers["X-Request-ID"]
        return problem

    async def key(self, role: str) -> str:
        """A key of the database with this role."""
        return await an_api_key(self.world, role, role)

    async def enrol(self, name: str = "web1") -> Json:
        """An agent through the front door: `agent_id` and `credential`."""
        token = (await self.post("/agents/enrolment-tokens", {}))["token"]
        made = await self.post("/agents/enrol", {"token": token, "name": name}, key=None)
        self.agents[name] = made
        return made

    async def target(self, agent: Json, **changes: Any) -> Json:
        body = {"name": "nginx", "type": "NGINX", "agent_id": agent["agent_id"], "config": NGINX}
        return await self.post("/targets", {**body, **changes})

    async def work(self, agent: Json, query: str = "") -> Json:
        """What the agent is offered now."""
        return await self.get(f"/agents/{agent['agent_id']}/work{query}", key=agent["credential"])

    async def send_csr(self, agent: Json, item: Json) -> None:
        """The agent answers a job that waits for a CSR, and the certificate is issued."""
        body = {"csr_pem": a_csr(*item["sans"]), "job_id": item["id"]}
        path = f"/agents/{agent['agent_id']}/csr"
        await self.post(path, body, status=202, key=agent["credential"])
        assert await issue.run(self.world.platform, item["id"])

    async def report(self, agent: Json, item: Json, **said: Any) -> Json:
        path = f"/agents/{agent['agent_id']}/jobs/{item['id']}/status"
        return await self.post(path, said, status=200, key=agent["credential"])

    async def served(self) -> tuple[Json, Json]:
        """A certificate that was issued to one agent and deployed to one target, and the agent."""
        agent = await self.enrol()
        made = await self.order(target_ids=[(await self.target(agent))["id"]])
        (item,) = (await self.work(agent))["jobs"]
        await self.send_csr(agent, item)
        (item,) = (await self.work(agent))["jobs"]
        seen = item["fingerprint_sha256"]
        await self.report(agent, item, status="Completed", fingerprint_sha256=seen)
        return made, agent

    async def order(self, **changes: Any) -> Json:
        return await self.post("/certificates", {**ORDER, **changes})


NGINX: Final[Json] = {
    "cert_path": "/srv/site.pem",
    "key_path": "/srv/site.key",
    "validate_command": "true",
    "reload_command": "true",
}
ORDER: Final[Json] = {
    "name": "site",
    "common_name": "a.example.test",
    "owner_id": "o-default",
    "team_id": "t-default",
    "issuer_id": "iss-local",
    "renewal_policy_id": "rp-default",
}


def json_of(answer: httpx.Response, status: int) -> Json:
    assert answer.status_code == status, answer.text
    body: Json = answer.json() if status != 204 else {}
    return body


def check_declared(answer: httpx.Response) -> None:
    """The status is one that the route declares, and the body is of the declared model."""
    method = "GET" if answer.request.method == "HEAD" else answer.request.method
    row = row_for(method, answer.request.url.path)
    if row is None:
        return
    if answer.status_code not in {row.status, *row.also}:
        assert answer.status_code in {*ALWAYS, *row.errors}, f"{row}: {answer.text}"
        Problem.model_validate_json(answer.content)
    elif row.answer is None or method != answer.request.method:
        assert answer.status_code != 204 or answer.content == b""
    else:
        shown = TypeAdapter(row.answer)
        model = shown.validate_json(answer.content, extra="forbid")
        assert_no_more(answer.json(), shown.dump_python(model, mode="json"))


def assert_no_more(given: Any, declared: Any) -> None:
    """Whatever is given is declared, at every depth."""
    if isinstance(given, Mapping) and isinstance(declared, Mapping):
        assert set(given) <= set(declared)
        for name, value in given.items():
            assert_no_more(value, declared[name])
    elif isinstance(given, list):
        for one, other in zip(given, declared, strict=True):
            assert_no_more(one, other)


TABLES: Final = (
    "managed_certificates", "teams", "owners", "renewal_policies", "certificate_profiles",
    "issuers", "deployment_targets", "agents", "jobs", "audit_events", "api_keys", "roles",
    "role_permissions", "actor_roles", "enrolment_tokens", "users", "sessions", "oidc_providers",
    "group_role_mappings", "breakglass_credentials", "blocked_keys",
)  # fmt: skip


async def everything(world: World) -> Mapping[str, Sequence[Row]]:
    """The tables that a refused request must leave alone."""
    async with world.platform.db.read() as session:
        return {
            table: await session.all(f"SELECT * FROM {table} t ORDER BY t::text")
            for table in TABLES
        }


@dataclass
class Bearers:
    """An authenticator of the test's own, for bearer secrets alone."""

    find: Callable[[str], Awaitable[Actor | None]]

    async def __call__(self, bearer: str) -> Actor | None:
        return await self.find(bearer)

    async def by_certificate(self, _cert_der: bytes) -> Actor | None:
        return None

    async def by_session(self, token: str, *, address: str | None, user_agent: str) -> SignedIn:
        raise Unauthenticated("there are no sessions here")


async def ready() -> dict[str, str]:
    return {"db": "ok"}


def open_site(
    world: World,
    *,
    budgets: Budgets = UNLIMITED,
    authenticate: Authenticate | None = None,
    readiness: Callable[[], Awaitable[dict[str, str]]] = ready,
    environment_keys: tuple[EnvironmentKey, ...] = (BOSS,),
    auth_type: str = "api-key",
    rules: Rules = Rules(),
    origins: frozenset[str] = frozenset(),
    relying: Platform | None = None,
) -> Site:
    """The management listener as `serve` builds it, over ASGI."""
    world = replace(world, platform=replace(world.platform, environment_keys=environment_keys))
    door = management_door(
        world.platform,
        authenticate or Authenticator(world.platform),
        readiness=readiness,
        budgets=budgets,
        auth_type=auth_type,
        rules=rules,
        origins=origins,
        status_on=relying,
    )
    return Site(world, client(door))


def client(door: Any, scheme: str = "https", *, address: str = ADDRESS) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(door, raise_app_exceptions=True, client=(address, 40_000))
    return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://certctl.test")
