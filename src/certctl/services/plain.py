"""Teams, owners, profiles, renewal policies, issuers and targets: create, read, change, delete.

Issuers and targets also carry a configuration: the whole of it is sealed, and a copy without its
secrets is what people see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from certctl.connectors import catalog
from certctl.domain import policy as rules
from certctl.domain import profile as profiles
from certctl.domain.access import Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, Stale
from certctl.domain.ids import checked_id, new_id, repeatable_id
from certctl.domain.listing import PageRequest
from certctl.pki.policies import checked_cps, checked_policies
from certctl.pki.sealing import Place
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import certificates, fleet, queue, rows, secrets
from certctl.store.db import Row, Session, Tx

MASK: Final = "********"


@dataclass(frozen=True)
class Plain:
    """A kind of resource: its table, its id prefix, its permissions, and what it must satisfy."""

    table: rows.Table
    prefix: str
    read: Permission
    edit: Permission
    delete: Permission
    check: Callable[[Mapping[str, Any]], None] = lambda _values: None
    check_whole: Callable[[Mapping[str, Any]], None] = lambda _row: None
    refers: Mapping[str, rows.Table] = field(default_factory=dict)
    follow_up: str | None = None
    catalogue: Callable[[str], Any] | None = None
    warns: Callable[[Mapping[str, Any]], list[str]] | None = None

    def told(self, row: Row) -> Row:
        """The row with what its reader should know about it, where the kind has such words."""
        return row if self.warns is None else {**row, "warnings": self.warns(row)}


def _check_profile(values: Mapping[str, Any]) -> None:
    for rule in values.get("allowed_key_algorithms") or ():
        if rule["min_size"] not in profiles.KEY_SIZES.get(rule["algorithm"], ()):
            raise Invalid(
                "allowed_key_algorithms: RSA with a min_size of 2048 to 4096 bits, ECDSA of 256 "
                "to 384, Ed25519, ML-DSA of 44, 65 or 87",
                field="allowed_key_algorithms",
            )
    for eku in values.get("allowed_ekus") or ():
        if eku not in profiles.EKUS:
            raise Invalid(f"allowed_ekus: {', '.join(profiles.EKUS)}", field="allowed_ekus")
    for pattern in values.get("required_san_patterns") or ():
        profiles.checked_pattern(pattern)
    if values.get("spiffe_uri_pattern"):
        profiles.checked_pattern(values["spiffe_uri_pattern"], "spiffe_uri_pattern")
    checked_policies(values.get("certificate_policies") or (), field="certificate_policies")
    if values.get("cps_uri"):
        checked_cps(values["cps_uri"], field="cps_uri")


def _check_rule(row: Mapping[str, Any]) -> None:
    rules.check_config(rules.RuleType(row["type"]), row["config"])


def _check_whole_profile(row: Mapping[str, Any]) -> None:
    lifetime = timedelta(seconds=row["max_ttl_seconds"])
    if row["allow_short_lived"] != (lifetime < profiles.SHORT):
        raise Invalid(
            "allow_short_lived and a max_ttl_seconds under 3600 go together",
            field="allow_short_lived" if lifetime >= profiles.SHORT else "max_ttl_seconds",
        )
    if row["allow_short_lived"] and row["must_staple"]:
        raise Invalid("must_staple: a short-lived certificate has no OCSP", field="must_staple")
    if row["must_staple_critical"] and not row["must_staple"]:
        words = "must_staple_critical: goes together with must_staple"
        raise Invalid(words, field="must_staple_critical")
    if row["cps_uri"] and not row["certificate_policies"]:
        raise Invalid("cps_uri: there are no certificate_policies for it", field="cps_uri")


P = Permission
TEAMS: Final = Plain(rows.TEAMS, "t", P.TEAM_READ, P.TEAM_EDIT, P.TEAM_DELETE)
OWNERS: Final = Plain(rows.OWNERS, "o", P.OWNER_READ, P.OWNER_EDIT, P.OWNER_DELETE)
RENEWAL_POLICIES: Final = Plain(
    rows.RENEWAL_POLICIES,
    "rp",
    P.POLICY_READ,
    P.POLICY_EDIT,
    P.POLICY_DELETE,
    refers={"certificate_profile_id": rows.PROFILES, "agent_group_id": rows.AGENT_GROUPS},
)
PROFILES: Final = Plain(
    rows.PROFILES,
    "prof",
    P.PROFILE_READ,
    P.PROFILE_EDIT,
    P.PROFILE_DELETE,
    check=_check_profile,
    check_whole=_check_whole_profile,
    warns=profiles.warnings,
)
POLICY_RULES: Final = Plain(
    rows.POLICY_RULES,
    "pr",
    P.POLICY_READ,
    P.POLICY_EDIT,
    P.POLICY_DELETE,
    check_whole=_check_rule,
    follow_up=queue.EVALUATE_POLICY,
)
ISSUERS: Final = Plain(
    rows.ISSUERS,
    "iss",
    P.ISSUER_READ,
    P.ISSUER_EDIT,
    P.ISSUER_DELETE,
    catalogue=catalog.issuer_class,
)
TARGETS: Final = Plain(
    rows.TARGETS,
    "tgt",
    P.TARGET_READ,
    P.TARGET_EDIT,
    P.TARGET_DELETE,
    catalogue=catalog.target_class,
)


async def page(on: Platform, actor: Actor, kind: Plain, request: PageRequest) -> dict[str, Any]:
    async with on.db.read() as session:
        return await rows.page(session, kind.table, request, within=actor.scope(kind.read))


async def get(on: Platform, actor: Actor, kind: Plain, row_id: str) -> Row:
    async with on.db.read() as session:
        return await rows.get(session, kind.table, row_id, within=actor.scope(kind.read))


async def create(
    on: Platform,
    actor: Actor,
    kind: Plain,
    *,
    values: Mapping[str, Any],
    idempotency_key: str | None = None,
) -> Row:
    """A new row. The same Idempotency-Key from the same actor answers with the first one's row,
    unless the caller has chosen an id, which is then found taken.

    Raises:
        Invalid: naming the field. Conflict: the id or a unique name is taken.
    """
    actor.everywhere(kind.edit)
    values = {name: value for name, value in values.items() if value is not None}
    chosen = values.pop("id", None)
    kind.check(values)
    async with on.db.transaction() as tx:
        row_id = choose_id(kind.prefix, actor, tx.now, chosen=chosen, key=idempotency_key)
        config = _parsed(kind, values.get("type"), values.get("config", {}))
        await _check_agent(tx, values)
        await _check_refers(tx, actor, kind, values)
        shown = {**values, **_shown_config(kind, values, config)}
        row = await rows.insert(tx, kind.table, row_id, values=shown)
        if row is None:
            if chosen is not None or idempotency_key is None:
                raise Conflict(f"id {row_id} is already in use", field="id")
            return await rows.get(tx, kind.table, row_id, within=actor.scope(kind.read))
        kind.check_whole(row)
        await _seal(on, tx, kind, row_id, config=config)
        await _record(tx, actor, kind, row_id, "created", after=shown)
        await _follow_up(on, tx, kind, row_id)
        return row


async def update(
    on: Platform,
    actor: Actor,
    kind: Plain,
    row_id: str,
    *,
    changes: Mapping[str, Any],
    if_match: str | None = None,
) -> Row:
    """Change the given fields; the others keep their values.

    Raises:
        Stale: when `if_match` names another version of the row than the present one.
    """
    kind.check(changes)
    async with on.db.transaction() as tx:
        row = await rows.lock(tx, kind.table, row_id, within=actor.scope(kind.edit))
        check_match(if_match, row["updated_at"])
        if changes.get("type") not in (None, row.get("type")):
            raise Invalid("type cannot be changed; make a new one", field="type")
        new = dict(changes)
        if kind.catalogue is not None and "config" in changes:
            kept = await whole_config(on, tx, kind, row_id)
            config = _parsed(kind, row["type"], merged(kept, changes["config"] or {}))
            new |= _shown_config(kind, {**row, **changes}, config)
            await _seal(on, tx, kind, row_id, config=config)
        if kind is PROFILES:
            new["version"] = row["version"] + 1
        await _check_agent(tx, changes)
        await _check_refers(tx, actor, kind, changes)
        await _check_profile_of(tx, kind, row_id, changes)
        after = await rows.update(tx, kind.table, row_id, values=new)
        kind.check_whole(after)
        before = {name: row.get(name) for name in new}
        await _record(tx, actor, kind, row_id, "updated", before=before, after=new)
        await _follow_up(on, tx, kind, row_id)
        return after


async def delete(on: Platform, actor: Actor, kind: Plain, row_id: str) -> None:
    """Raises Conflict with the counts while others refer to the row."""
    async with on.db.transaction() as tx:
        row = await rows.lock(tx, kind.table, row_id, within=actor.scope(kind.delete))
        used = await rows.uses(tx, kind.table, row_id)
        if used:
            counts = ", ".join(f"{n} {t.replace('_', ' ')}" for t, n in used.items())
            raise Conflict(f"{kind.table.noun} {row_id} is in use: {counts}", counts=used)
        await rows.delete(tx, kind.table, row_id)
        await _record(tx, actor, kind, row_id, "deleted", before=row)


def check_match(if_match: str | None, updated_at: datetime) -> None:
    """Raises Stale when an If-Match header names another version (RFC 9110 §13.1.1)."""
    if if_match is not None and if_match.strip() not in {"*", etag(updated_at)}:
        raise Stale("If-Match: the resource has changed since; read it again")


def etag(updated_at: datetime) -> str:
    return f'"{int(updated_at.timestamp() * 1_000_000):x}"'


def merged(kept: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, in which a mask stands for the value that is kept already."""
    return {
        name: (
            merged(kept.get(name) or {}, value)
            if isinstance(value, dict)
            else kept.get(name)
            if value == MASK
            else value
        )
        for name, value in given.items()
    }


def choose_id(
    prefix: str, actor: Actor, now: datetime, *, chosen: str | None, key: str | None
) -> str:
    """The id of a new row: the caller's, that of its Idempotency-Key, or a fresh one.

    Raises:
        Invalid: when the caller's is no identifier.
    """
    if chosen is not None:
        return checked_id(chosen)
    return repeatable_id(prefix, actor.id, key) if key else new_id(prefix, now)


def _parsed(kind: Plain, type_name: str | None, config: Any) -> BaseModel | None:
    if kind.catalogue is None:
        return None
    try:
        parsed: BaseModel = kind.catalogue(type_name or "").Config.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(("config", *map(str, first["loc"])))
        message = first["msg"].removeprefix("Value error, ")
        raise Invalid(f"{field}: {message}", field=field) from None
    return parsed


def _shown_config(
    kind: Plain, values: Mapping[str, Any], config: BaseModel | None
) -> dict[str, Any]:
    if config is None or kind.catalogue is None:
        return {}
    return {"type": kind.catalogue(values["type"]).kind, "config": masked(config)}


def masked(config: BaseModel) -> dict[str, Any]:
    """The configuration as people may see it: declared secrets replaced, at every depth."""
    return {name: _masked(getattr(config, name)) for name in sorted(config.model_fields_set)}


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return json.loads(json.dumps(value, default=str))


def _open(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _open(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, list | tuple):
        return [_open(item) for item in value]
    return json.loads(json.dumps(value, default=str))


async def _seal(
    on: Platform, tx: Tx, kind: Plain, row_id: str, *, config: BaseModel | None
) -> None:
    if config is not None:
        place = Place(kind.table.name, "sealed_config", row_id)
        sealed = on.data_key.seal(json.dumps(_open(config)).encode(), place)
        await secrets.put_config(tx, kind.table.name, row_id, sealed=sealed)


async def whole_config(on: Platform, session: Session, kind: Plain, row_id: str) -> dict[str, Any]:
    """The configuration with its secrets, for the connector that uses it and nobody else."""
    sealed = await secrets.config(session, kind.table.name, row_id)
    return {} if sealed is None else unsealed_config(on, kind, row_id, sealed=sealed)


def unsealed_config(on: Platform, kind: Plain, row_id: str, *, sealed: bytes) -> dict[str, Any]:
    place = Place(kind.table.name, "sealed_config", row_id)
    opened: dict[str, Any] = json.loads(on.data_key.unseal(bytes(sealed), place))
    return opened


async def _check_agent(tx: Tx, values: Mapping[str, Any]) -> None:
    if values.get("agent_id") is not None and not await fleet.is_serving(tx, values["agent_id"]):
        raise Invalid("agent_id names no agent, or one that has retired", field="agent_id")


async def _check_refers(tx: Tx, actor: Actor, kind: Plain, values: Mapping[str, Any]) -> None:
    """A clear answer for each field that names something which does not exist."""
    given = {f: t for f, t in kind.refers.items() if values.get(f) is not None}
    for name in await rows.dangling(tx, given, values, within=actor.scope(kind.edit)):
        raise Invalid(f"{name}: {given[name].noun} {values[name]} does not exist", field=name)


async def _check_profile_of(tx: Tx, kind: Plain, row_id: str, changes: Mapping[str, Any]) -> None:
    """A policy can be for one profile only while none of its certificates has another."""
    profile_id = changes.get("certificate_profile_id")
    if kind is RENEWAL_POLICIES and profile_id is not None:
        others = await certificates.other_profiles(tx, row_id, profile_id)
        if others:
            raise Conflict(
                f"certificate_profile_id: {others} certificates of this policy have another",
                field="certificate_profile_id",
                counts={"managed_certificates": others},
            )


async def _follow_up(on: Platform, tx: Tx, kind: Plain, row_id: str) -> None:
    """The task that a change of this kind defers, in the change's transaction."""
    if kind.follow_up is not None:
        await on.queue.defer(tx, kind.follow_up, once_per=row_id, row_id=row_id)


async def _record(
    tx: Tx, actor: Actor, kind: Plain, row_id: str, verb: str, **details: Any
) -> None:
    noun = kind.table.noun.replace(" ", "_")
    await audit.record(
        tx, actor, f"{noun}_{verb}", on=(noun, row_id), category=Category.CONFIG, **details
    )
