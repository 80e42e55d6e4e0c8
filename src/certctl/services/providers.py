"""OpenID providers and the roles that their groups lead to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from certctl.connectors.openid import checked_url
from certctl.domain.access import Actor, ActorType, Grant, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from certctl.domain.ids import new_id
from certctl.pki import jws
from certctl.pki.sealing import Place
from certctl.services import audit, discovery
from certctl.services.access import grants_in
from certctl.services.platform import Platform
from certctl.services.roles import administered, check_held, check_role, permissions_of
from certctl.store import oidc, roles, users
from certctl.store.db import Row, Session, Tx


async def every(on: Platform, actor: Actor) -> list[Row]:
    actor.everywhere(Permission.AUTH_OIDC_LIST)
    async with on.db.read() as session:
        return await oidc.providers(session)


async def to_choose(on: Platform) -> list[dict[str, str]]:
    """The providers that somebody who is not signed in may choose from."""
    async with on.db.read() as session:
        found = await oidc.providers(session)
    return [
        {
            "id": row["id"],
            "display_name": row["name"],
            "login_url": f"/auth/oidc/login?provider={row['id']}",
        }
        for row in found
        if row["enabled"]
    ]


async def create(on: Platform, actor: Actor, values: Mapping[str, Any]) -> Row:
    """A provider; its secret is sealed, and shown by nothing.

    Raises:
        Invalid: naming the field. Conflict: for a name, or an issuer and client, that is taken.
    """
    actor.everywhere(Permission.AUTH_OIDC_CREATE)
    check(values)
    async with on.db.transaction() as tx:
        provider_id = new_id("op", tx.now)
        row = await oidc.insert(tx, provider_id, _sealed(on, provider_id, values))
        await _record(tx, actor, "oidc_provider_created", provider_id, **_told(values))
        return row


async def update(on: Platform, actor: Actor, provider_id: str, values: Mapping[str, Any]) -> Row:
    """Change the given fields.

    Raises:
        Conflict: for another issuer while people have come in by this one, whose subjects mean
            somebody else there; and when the last administrator would be shut out.
        NotAllowed: when somebody who comes in by it may do more than the caller.
    """
    actor.everywhere(Permission.AUTH_OIDC_EDIT)
    check(values)
    async with on.db.transaction() as tx:
        async with administered(on, tx):
            before = await oidc.lock(tx, provider_id)
            check_held(actor, await _grants(tx, provider_id), f"provider {provider_id}")
            await _check_issuer(tx, before, values)
            row = await oidc.update(tx, provider_id, _sealed(on, provider_id, values))
        if row["issuer_url"] != before["issuer_url"]:
            await oidc.forget_discovery(tx, provider_id)
        await _record(tx, actor, "oidc_provider_updated", provider_id, **_told(values))
        return row


async def delete(on: Platform, actor: Actor, provider_id: str) -> None:
    """Raises Conflict while somebody has come in by it."""
    actor.everywhere(Permission.AUTH_OIDC_DELETE)
    async with on.db.transaction() as tx:
        before = await oidc.lock(tx, provider_id)
        if count := await oidc.users(tx, provider_id):
            words = f"provider {provider_id} is in use; turn it off instead"
            raise Conflict(words, counts={"users": count})
        await oidc.delete(tx, provider_id)
        await _record(tx, actor, "oidc_provider_deleted", provider_id, name=before["name"])


async def refresh(on: Platform, actor: Actor, provider_id: str) -> None:
    """Ask the provider for its metadata and keys now; audited, since it reaches outside."""
    actor.everywhere(Permission.AUTH_OIDC_EDIT)
    async with on.db.transaction() as tx:
        provider = await oidc.get(tx, provider_id)
        await _record(tx, actor, "oidc_provider_refreshed", provider_id)
    await discovery.fetch(on, provider)


async def keys_of(on: Platform, actor: Actor, provider_id: str) -> dict[str, Any]:
    """What is known of the provider's keys, and how asking for them went."""
    actor.everywhere(Permission.AUTH_OIDC_LIST)
    async with on.db.read() as session:
        await oidc.get(session, provider_id)
        found = await oidc.discovery(session, provider_id) or {}
    metadata = found.get("metadata") or {}
    return {
        "last_refresh_at": found.get("fetched_at"),
        "current_kids": jws.key_ids(found.get("jwks") or {}),
        "refresh_count": found.get("refresh_count", 0),
        "last_error": found.get("last_error", ""),
        "rejected_jws_count": found.get("rejected", 0),
        "iss_param_supported": _says_who_it_is(metadata),
    }


async def try_out(on: Platform, actor: Actor, issuer: str) -> dict[str, Any]:
    """Ask a provider that is not configured yet; what fails is told, not raised. That it was
    asked is audited, since it reaches outside."""
    actor.everywhere(Permission.AUTH_OIDC_CREATE)
    checked_url(issuer, field="issuer_url")
    async with on.db.transaction() as tx:
        await _record(tx, actor, "oidc_provider_tested", issuer)
    empty = {"supported_alg_values": [], "current_kids": [], "iss_param_supported": False}
    try:
        known = await discovery.ask(on, issuer)
    except (Unavailable, Refused) as error:
        failed = {"discovery_succeeded": False, "jwks_reachable": False}
        return {**empty, **failed, "errors": [error.message]}
    said = known.metadata
    return {
        "discovery_succeeded": True,
        "jwks_reachable": True,
        "supported_alg_values": said.get("id_token_signing_alg_values_supported", []),
        "iss_param_supported": _says_who_it_is(said),
        "issuer_echo": said["issuer"],
        "authorization_url": said["authorization_endpoint"],
        "token_url": said["token_endpoint"],
        "jwks_uri": said["jwks_uri"],
        "userinfo_endpoint": said.get("userinfo_endpoint", ""),
        "current_kids": jws.key_ids(known.jwks),
        "errors": [],
    }


async def mappings(on: Platform, actor: Actor, provider_id: str) -> list[Row]:
    actor.everywhere(Permission.AUTH_OIDC_LIST)
    async with on.db.read() as session:
        return await oidc.mappings(session, provider_id)


async def map_group(
    on: Platform, actor: Actor, *, provider_id: str, group_name: str, role_id: str
) -> Row:
    """Let a group have a role, from its people's next sign-in on.

    Raises:
        NotAllowed: when the role permits more than the caller may. Conflict: when it has it.
    """
    actor.everywhere(Permission.AUTH_OIDC_EDIT)
    async with on.db.transaction() as tx:
        await check_role(tx, actor, role_id, field="role_id")
        try:
            await oidc.lock(tx, provider_id)
        except NotFound as error:
            raise Invalid(f"provider_id: {error.message}", field="provider_id") from None
        known = await oidc.mappings(tx, provider_id)
        if any((each["group_name"], each["role_id"]) == (group_name, role_id) for each in known):
            raise Conflict("the group has this role already", field="group_name")
        names = {"provider_id": provider_id, "group_name": group_name, "role_id": role_id}
        row = {"id": new_id("grm", tx.now), **names, "created_at": tx.now}
        await oidc.insert_mapping(tx, row)
        told = {"group_name": group_name, "role_id": role_id}
        await _record(tx, actor, "oidc_group_mapped", provider_id, **told)
        return row


async def unmap_group(on: Platform, actor: Actor, mapping_id: str) -> None:
    """Take a mapping away; whoever has the role by it keeps it until they sign in again."""
    actor.everywhere(Permission.AUTH_OIDC_EDIT)
    async with on.db.transaction() as tx:
        row = await oidc.delete_mapping(tx, mapping_id)
        names = {name: row[name] for name in ("group_name", "role_id")}
        await _record(tx, actor, "oidc_group_unmapped", row["provider_id"], **names)


def check(values: Mapping[str, Any]) -> None:
    """Raises Invalid naming the first field that does not suit."""
    if "issuer_url" in values:
        issuer = checked_url(values["issuer_url"], field="issuer_url")
        if "?" in issuer:
            raise Invalid("issuer_url has no query", field="issuer_url")
    if "redirect_uri" in values:
        checked_url(values["redirect_uri"], field="redirect_uri", plain=False)
    if "openid" not in values.get("scopes", ["openid"]):
        raise Invalid("scopes must hold openid", field="scopes")
    for scope in values.get("scopes", []):
        if not re.fullmatch(r"[!#-\[\]-~]+", scope):
            raise Invalid(f"scopes: {scope!r} is no scope", field="scopes")


async def _check_issuer(tx: Tx, before: Row, values: Mapping[str, Any]) -> None:
    other = values.get("issuer_url", before["issuer_url"]) != before["issuer_url"]
    if other and await oidc.users(tx, before["id"]):
        words = "issuer_url: people have come in by this issuer; make another provider"
        raise Conflict(words, field="issuer_url")


async def _grants(session: Session, provider_id: str) -> list[Grant]:
    """All that somebody may do who comes in by this provider."""
    grants: list[Grant] = []
    for role_id in {each["role_id"] for each in await oidc.mappings(session, provider_id)}:
        grants += await permissions_of(session, role_id)
    for user in await users.every(session, provider_id=provider_id):
        grants += grants_in(await roles.grants_of(session, ActorType.USER, user["id"]))
    return grants


def _sealed(on: Platform, provider_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns; a secret that is not given, or masked, stays."""
    columns = {name: value for name, value in values.items() if name != "client_secret"}
    if "client_secret" in values:
        secret = values["client_secret"].encode()
        columns["sealed_client_secret"] = on.data_key.seal(secret, _place(provider_id))
    return columns


def client_secret(on: Platform, provider: Row) -> str:
    sealed = bytes(provider["sealed_client_secret"])
    return on.data_key.unseal(sealed, _place(provider["id"])).decode()


def _place(provider_id: str) -> Place:
    return Place("oidc_providers", "sealed_client_secret", provider_id)


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for the audit trail, in which a secret is only known to have changed."""
    return {name: "***" if name == "client_secret" else each for name, each in values.items()}


def _says_who_it_is(metadata: Mapping[str, Any]) -> bool:
    """Whether its answers name it (RFC 9207 §3)."""
    return metadata.get("authorization_response_iss_parameter_supported") is True


async def _record(tx: Tx, actor: Actor, action: str, provider_id: str, **details: Any) -> None:
    await audit.record(
        tx, actor, action, on=("oidc_provider", provider_id), category=Category.AUTH, **details
    )
