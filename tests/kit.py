"""Builders for tests: agents, targets, orders, requests, and certificates brought to life."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, Field, SecretStr

from certctl import wire
from certctl.connectors import target
from certctl.connectors.target import Bundle, Deployed
from certctl.domain.access import Actor, ActorType, actor_with_roles
from certctl.pki.keys import PublicKey, Signer
from certctl.pki.sealing import Place
from certctl.services import certificates, deploy, enrolment, fleet, issue, keys, plain, renew
from certctl.services.access import with_request
from certctl.services.platform import Platform
from certctl.store.db import Row
from tests.conftest import World

ADMIN = with_request(
    actor_with_roles("admin", ("r-admin",)), address="192.0.2.7", request_id="request-of-a-test"
)
VIEWER = actor_with_roles("viewer", ("r-viewer",))
NGINX: dict[str, Any] = {
    "cert_path": "/srv/site.pem",
    "key_path": "/srv/site.key",
    "validate_command": "true",
    "reload_command": "true",
}


@cache
def a_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """The same P-256 key for the same number."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def a_weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def a_csr(*names: str, key: Any = None, common_name: str | None = None) -> str:
    """A request in PEM for these DNS names."""
    key = key or a_key()
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(sans, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def a_forged_csr(*names: str) -> str:
    """A request whose signature does not fit."""
    der = bytearray(x509.load_pem_x509_csr(a_csr(*names).encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


def an_order(**changes: Any) -> dict[str, Any]:
    """A certificate for a.example.test under the defaults of the first start."""
    order = {
        "name": "site",
        "common_name": "a.example.test",
        "owner_id": "o-default",
        "team_id": "t-default",
        "issuer_id": "iss-local",
        "renewal_policy_id": "rp-default",
    }
    return {**order, **changes}


async def an_agent(world: World, name: str = "web1") -> Actor:
    """An agent that has enrolled; the actor that its credential makes it."""
    token = await enrolment.make_token(world.platform, ADMIN)
    enrolled = await enrolment.enrol(
        world.platform,
        wire.Enrolment(token=token["token"], name=name),
        address="192.0.2.8",
        request_id="enrolment",
    )
    return agent_actor(enrolled.agent_id)


async def an_api_key(world: World, name: str, *roles: str) -> str:
    """The secret of a new API key with these roles."""
    made = await keys.create(world.platform, ADMIN, name, role_ids=roles, expires_at=None)
    return str(made["key_value"])


def agent_actor(agent_id: str) -> Actor:
    return actor_with_roles(agent_id, ("r-agent",), kind=ActorType.AGENT, agent_id=agent_id)


async def a_target(world: World, agent: Actor, **changes: Any) -> str:
    """The id of a new NGINX target of the agent."""
    values = {"name": "nginx", "type": "NGINX", "agent_id": agent.agent_id, "config": NGINX}
    row = await plain.create(world.platform, ADMIN, plain.TARGETS, values={**values, **changes})
    return str(row["id"])


async def a_profile(world: World, **changes: Any) -> str:
    values = {"name": "strict", "allow_single_labels": True}
    row = await plain.create(world.platform, ADMIN, plain.PROFILES, values={**values, **changes})
    return str(row["id"])


async def a_policy(world: World, **changes: Any) -> str:
    values = {"name": "other policy"}
    kind = plain.RENEWAL_POLICIES
    row = await plain.create(world.platform, ADMIN, kind, values={**values, **changes})
    return str(row["id"])


async def order(world: World, **changes: Any) -> Row:
    """A certificate as `POST /certificates` makes it."""
    return await certificates.create(world.platform, ADMIN, order=an_order(**changes))


async def offered(world: World, agent: Actor, *, session: str | None = None) -> list[wire.WorkItem]:
    """What the agent is given when it asks for work now."""
    assert agent.agent_id
    answer = await fleet.work(
        world.platform, agent, agent.agent_id, wait=0, session=session, has_left=stays
    )
    return answer.jobs


async def stays() -> bool:
    """The caller is still there and waits for its answer."""
    return False


async def send_csr(world: World, agent: Actor, item: wire.WorkItem, *, key: Any = None) -> str:
    """The agent answers a job that waits for a CSR."""
    assert agent.agent_id
    csr = a_csr(*item.sans, key=key or a_key(hash(item.id)))
    submission = wire.CsrSubmission(csr_pem=csr, job_id=item.id)
    return await fleet.submit_csr(world.platform, agent, agent.agent_id, submission)


async def report(world: World, agent: Actor, job_id: str, **said: Any) -> None:
    await deploy.report(world.platform, agent, job_id, report=wire.JobReport(**said))


async def deployed(world: World, agent: Actor, item: wire.WorkItem) -> None:
    """The agent says that it serves what it was given."""
    await report(
        world, agent, item.id, status="Completed", fingerprint_sha256=item.fingerprint_sha256
    )


@dataclass(frozen=True)
class Served:
    """A certificate that was ordered, issued to one agent and deployed to one target."""

    id: str
    agent: Actor
    target_id: str


async def a_served_certificate(world: World, *, agent_name: str = "web1", **changes: Any) -> Served:
    agent = await an_agent(world, agent_name)
    target_id = await a_target(world, agent)
    row = await order(world, target_ids=[target_id], **changes)
    await issue_to(world, agent)
    for item in await offered(world, agent):
        await deployed(world, agent, item)
    return Served(row["id"], agent, target_id)


async def held_by_two(world: World) -> tuple[str, Actor, Actor]:
    """A certificate with a target on each of two agents, and the agents."""
    agents = await an_agent(world, "web1"), await an_agent(world, "web2")
    targets = [await a_target(world, agent) for agent in agents]
    row = await order(world, target_ids=targets)
    return row["id"], *agents


async def issue_to(world: World, *agents: Actor) -> list[str]:
    """Carry every waiting issuance of these agents to its end; the ids of the jobs."""
    job_ids = []
    for agent in agents:
        for item in await offered(world, agent):
            if item.status == "AwaitingCSR":
                await send_csr(world, agent, item)
                assert await issue.run(world.platform, item.id)
                job_ids.append(item.id)
    return job_ids


async def an_issued_certificate(world: World, **changes: Any) -> Row:
    """A certificate for a key of the operator's, issued."""
    names = [changes.get("common_name", "a.example.test"), *changes.get("sans", ())]
    row = await order(world, csr_pem=a_csr(*names), **changes)
    assert await issue.run(world.platform, await job_of(world, row["id"]))
    return await certificate(world, row["id"])


async def certificate(world: World, certificate_id: str) -> Row:
    return await certificates.get(world.platform, ADMIN, certificate_id)


async def renew_now(world: World, certificate_id: str, **how: Any) -> list[str]:
    return await renew.renew(world.platform, ADMIN, certificate_id, **how)


async def rows(world: World, query: str, **values: Any) -> list[Row]:
    """What a query of the test's own finds."""
    async with world.platform.db.read() as session:
        return await session.all(query, **values)


async def value(world: World, query: str, **values: Any) -> Any:
    found = await rows(world, query, **values)
    return next(iter(found[0].values())) if found else None


async def change(world: World, statement: str, **values: Any) -> int:
    """Put the database into a state that time or an accident would bring about."""
    async with world.platform.db.transaction() as tx:
        return await tx.run(statement, **values)


async def jobs_of(world: World, certificate_id: str) -> list[Row]:
    return await rows(
        world,
        "SELECT * FROM jobs WHERE certificate_id = %(id)s ORDER BY created_at, id",
        id=certificate_id,
    )


async def job_of(world: World, certificate_id: str) -> str:
    """The newest job of a certificate."""
    return str((await jobs_of(world, certificate_id))[-1]["id"])


async def job(world: World, job_id: str) -> Row:
    return (await rows(world, "SELECT * FROM jobs WHERE id = %(id)s", id=job_id))[0]


async def versions_of(world: World, certificate_id: str) -> list[Row]:
    return await rows(
        world,
        "SELECT * FROM certificate_versions WHERE certificate_id = %(id)s ORDER BY created_at",
        id=certificate_id,
    )


async def actions(world: World) -> list[str]:
    """What the audit trail says has been done, oldest first."""
    found = await rows(world, "SELECT action FROM audit_events ORDER BY sequence")
    return [row["action"] for row in found]


async def everything(world: World) -> Mapping[str, Sequence[Row]]:
    """The tables that a refused request must leave alone."""
    tables = ("managed_certificates", "certificate_versions", "jobs", "issuances", "audit_events")
    return {
        table: await rows(world, f"SELECT * FROM {table} t ORDER BY t::text") for table in tables
    }


@dataclass(frozen=True)
class Watched:
    """A signer whose every signature goes through `sign`."""

    signer: Signer
    through: Callable[[Signer, bytes], bytes]

    @property
    def public_key(self) -> PublicKey:
        return self.signer.public_key

    @property
    def repeats(self) -> bool:
        return self.signer.repeats

    def sign(self, data: bytes) -> bytes:
        return self.through(self.signer, data)


def with_signer(world: World, sign: Callable[[Signer, bytes], bytes]) -> Platform:
    """The platform with another home for its keys."""
    opened = world.platform.signer

    def open_key(place: Place, sealed: bytes) -> Signer:
        return Watched(opened(place, sealed), sign)

    return replace(world.platform, signer=open_key)


@dataclass
class Gate:
    """The place where keys live: says when it is asked to sign, and waits for leave."""

    reached: threading.Event = field(default_factory=threading.Event)
    leave: threading.Event = field(default_factory=threading.Event)
    signed: list[bytes] = field(default_factory=list)

    def sign(self, signer: Signer, data: bytes) -> bytes:
        self.reached.set()
        assert self.leave.wait(20)
        self.signed.append(data)
        return signer.sign(data)


async def at_the_gate(world: World, job_id: str) -> tuple[asyncio.Task[bool], Gate]:
    """A run that stands before its signature."""
    gate = Gate()
    run = asyncio.create_task(issue.run(with_signer(world, gate.sign), job_id))
    assert await asyncio.to_thread(gate.reached.wait, 20)
    return run, gate


class Killed(BaseException):
    """The process ends here."""


def killed(signer: Signer, data: bytes) -> bytes:
    """What signs, for `with_signer`, when the process ends before the signature."""
    raise Killed


class Toy(target.Target):
    """A target whose configuration holds secrets at two depths."""

    kind: ClassVar[str] = "Toy"

    class Config(target.Config):
        class Login(BaseModel):
            user: str
            password: SecretStr

        key_path: str = Field("/srv/key", description="Where the key goes")
        token: SecretStr = Field(description="A secret")
        login: Login | None = Field(None, description="A secret further in")

    def check(self) -> None:
        raise NotImplementedError

    def deploy(self, bundle: Bundle) -> Deployed:
        raise NotImplementedError


TOY = {"token": "sesame-1", "login": {"user": "operator", "password": "sesame-2"}}
