"""How an agent comes by its credential: one-time tokens, renewal, revocation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from certctl import wire
from certctl.domain.access import EVERYTHING, Actor, ActorType, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotFound, Unauthenticated
from certctl.domain.ids import new_id
from certctl.pki import x509
from certctl.services import audit, authority, revoke
from certctl.services import fleet as fleet_service
from certctl.services.access import (
    AGENT_KEY,
    ENROLMENT_TOKEN,
    IDENTITY,
    Secret,
    make_secret,
    secret_hash,
)
from certctl.services.platform import Platform
from certctl.store import access, fleet, groups, rows, signals
from certctl.store.db import Row, Tx

TOKEN_LIFETIME: Final = timedelta(hours=1)
ISSUER: Final = "iss-local"


async def make_token(
    on: Platform,
    actor: Actor,
    *,
    lifetime: timedelta = TOKEN_LIFETIME,
    agent_group_id: str | None = None,
    agent_id: str | None = None,
) -> dict[str, Any]:
    """A one-time enrolment token: for a new agent, which may be put into a group, or for
    `agent_id`, which has lost its credential. It carries the fingerprint of the CA to trust at
    first contact, is shown once, and only its hash is kept.

    Raises:
        Invalid: naming the field that names no group, no agent, or a retired one.
    """
    actor.everywhere(Permission.AGENT_EDIT)
    if agent_group_id and agent_id:
        raise Invalid("agent_group_id: for a new agent only", field="agent_group_id")
    anchor = await authority.trust_anchor(on, ISSUER)
    secret = make_secret(ENROLMENT_TOKEN)
    async with on.db.transaction() as tx:
        await _check(tx, agent_group_id=agent_group_id, agent_id=agent_id)
        token_id, expires_at = new_id("et", tx.now), tx.now + lifetime
        bound = {"agent_group_id": agent_group_id, "for_agent_id": agent_id}
        await access.insert_enrolment_token(
            tx,
            {
                "id": token_id,
                "token_hash": secret.hash,
                "created_by": actor.id,
                "expires_at": expires_at,
                **bound,
            },
        )
        await _record(
            tx, actor, "enrolment_token_created", token_id, expires_at=expires_at, **bound
        )
    fingerprint = x509.facts(anchor).fingerprint_sha256
    return {"id": token_id, "token": f"{secret.text}.{fingerprint}", "expires_at": expires_at}


async def _check(tx: Tx, *, agent_group_id: str | None, agent_id: str | None) -> None:
    if agent_id is not None and not await fleet.is_serving(tx, agent_id):
        raise Invalid("agent_id names no agent, or one that has retired", field="agent_id")
    wanted = [agent_group_id] if agent_group_id is not None else []
    for missing in await rows.missing(tx, rows.AGENT_GROUPS, wanted, within=EVERYTHING):
        raise Invalid(
            f"agent_group_id: agent group {missing} does not exist", field="agent_group_id"
        )


async def _record(tx: Tx, actor: Actor, action: str, token_id: str, **details: Any) -> None:
    await audit.record(
        tx,
        actor,
        action,
        on=("enrolment_token", token_id),
        category=Category.AUTH,
        **details,
    )


async def tokens(on: Platform, actor: Actor) -> list[Row]:
    """The tokens that can still be used, without their secrets. Who has looked is audited."""
    actor.everywhere(Permission.AGENT_EDIT)
    async with on.db.transaction() as tx:
        found = await access.enrolment_tokens(tx)
        await _record(tx, actor, "enrolment_tokens_listed", "all", count=len(found))
        return found


async def revoke_token(on: Platform, actor: Actor, token_id: str) -> None:
    actor.everywhere(Permission.AGENT_EDIT)
    async with on.db.transaction() as tx:
        await access.revoke_enrolment_token(tx, token_id)
        await _record(tx, actor, "enrolment_token_revoked", token_id)


async def enrol(
    on: Platform, enrolment: wire.Enrolment, *, address: str | None, request_id: str
) -> wire.Enrolled:
    """Exchange a one-time token for a credential of the agent's own.

    Raises:
        Unauthenticated: for a token that is unknown, used, revoked or expired. Conflict: for a
            taken name, or an agent that has retired meanwhile.
    """
    secret: Secret = make_secret(AGENT_KEY)
    token = secret_hash(enrolment.token.rpartition(".")[0] or enrolment.token)
    async with on.db.transaction() as tx:
        found = await access.lock_enrolment_token(tx, token)
        if found is None:
            raise Unauthenticated("the enrolment token is unknown, used or expired")
        agent_id = await _enrolled(tx, found, enrolment, secret.hash)
        await access.use_enrolment_token(tx, found["id"], agent_id)
        await signals.wake(tx, IDENTITY)
        await audit.record(
            tx,
            Actor(agent_id, ActorType.AGENT, address=address, request_id=request_id),
            "agent_enrolled",
            on=("agent", agent_id),
            category=Category.AUTH,
            name=enrolment.name,
            token_id=found["id"],
            again=found["for_agent_id"] is not None,
        )
    anchors = x509.chain_pem(await authority.trust_anchors(on, ISSUER))
    return wire.Enrolled(agent_id=agent_id, credential=secret.text, ca_pem=anchors)


async def _enrolled(tx: Tx, token: Row, enrolment: wire.Enrolment, credential_hash: bytes) -> str:
    if token["for_agent_id"] is not None:
        agent_id: str = token["for_agent_id"]
        if not await fleet.is_serving(tx, agent_id):
            raise Conflict(f"agent {agent_id} has been retired")
        await access.replace_credential(tx, agent_id, credential_hash)
        return agent_id
    agent_id = new_id("ag", tx.now)
    facts = enrolment.model_dump(exclude={"token"})
    await fleet.insert(tx, agent_id, credential_hash=credential_hash, facts=facts)
    if token["agent_group_id"] is not None:
        await groups.add_member(tx, token["agent_group_id"], agent_id)
    return agent_id


async def next_credential(on: Platform, actor: Actor, agent_id: str) -> wire.Credential:
    """Another credential for the agent itself. The present one goes on until the other is first
    used, so that an answer which never arrives locks nobody out."""
    await fleet_service.own(on, actor, agent_id)
    secret = make_secret(AGENT_KEY)
    async with on.db.transaction() as tx:
        await access.offer_credential(tx, agent_id, secret.hash)
        await audit.record(
            tx,
            actor,
            "agent_credential_renewed",
            on=("agent", agent_id),
            category=Category.AUTH,
        )
    return wire.Credential(credential=secret.text)


async def revoke_credential(on: Platform, actor: Actor, agent_id: str) -> None:
    """From the commit on the agent is a stranger; a token for it lets it come back."""
    actor.everywhere(Permission.AGENT_EDIT)
    async with on.db.transaction() as tx:
        if not await fleet.is_serving(tx, agent_id):
            raise NotFound(f"agent {agent_id} does not exist, or has retired")
        await access.revoke_credential(tx, agent_id)
        certificates = await revoke.certificates_of_agent(on, tx, actor, agent_id)
        await signals.wake(tx, IDENTITY)
        await audit.record(
            tx,
            actor,
            "agent_credential_revoked",
            on=("agent", agent_id),
            category=Category.AUTH,
            certificates=certificates,
        )
