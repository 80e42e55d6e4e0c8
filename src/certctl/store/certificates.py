"""Managed certificates and the targets they are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch
from certctl.store.versions import HELD

COLUMNS: Final = (
    "id",
    "name",
    "common_name",
    "sans",
    "environment",
    "owner_id",
    "team_id",
    "issuer_id",
    "renewal_policy_id",
    "certificate_profile_id",
    "status",
    "expires_at",
    "tags",
    "source",
    "watched",
    "last_error",
    "last_renewal_at",
    "last_deployment_at",
    "revoked_at",
    "revocation_reason",
    "created_at",
    "updated_at",
)
TARGET_IDS: Final = (
    "ARRAY(SELECT m.target_id FROM certificate_target_mappings m "
    "WHERE m.certificate_id = c.id ORDER BY m.target_id) AS target_ids"
)
FIELDS: Final = {name: f"c.{name}" for name in COLUMNS} | {"target_ids": TARGET_IDS}
SHOWN: Final = ", ".join(FIELDS.values())
WITHIN: Final = (
    "(%(scope_all)s OR c.issuer_id = ANY(%(scope_issuers)s) "
    "OR c.certificate_profile_id = ANY(%(scope_profiles)s))"
)
FILTERS: Final = {
    "status": "c.status = %(status)s",
    "environment": "c.environment = %(environment)s",
    "owner_id": "c.owner_id = %(owner_id)s",
    "team_id": "c.team_id = %(team_id)s",
    "issuer_id": "c.issuer_id = %(issuer_id)s",
    "profile_id": "c.certificate_profile_id = %(profile_id)s",
    "expires_before": "c.expires_at < %(expires_before)s",
    "expires_after": "c.expires_at > %(expires_after)s",
    "created_before": "c.created_at < %(created_before)s",
    "created_after": "c.created_at > %(created_after)s",
    "updated_before": "c.updated_at < %(updated_before)s",
    "updated_after": "c.updated_at > %(updated_after)s",
    "renewal_policy_id": "c.renewal_policy_id = %(renewal_policy_id)s",
    "watched": "c.watched = %(watched)s",
    "tags": "c.tags @> %(tags)s",
    "search": "certificate_words(c.name, c.sans) @@ %(search)s::tsquery",
    "target_id": (
        "EXISTS (SELECT FROM certificate_target_mappings m "
        "WHERE m.certificate_id = c.id AND m.target_id = %(target_id)s)"
    ),
    "certificate_ids": "c.id = ANY(%(certificate_ids)s)",
    "agent_id": (
        "EXISTS (SELECT FROM certificate_target_mappings m JOIN deployment_targets t "
        "ON t.id = m.target_id WHERE m.certificate_id = c.id AND t.agent_id = %(agent_id)s)"
    ),
}
ORDERS: Final = {
    "createdAt": Order("created_at"),
    "updatedAt": Order("updated_at"),
    "notAfter": Order("expires_at"),
    "expiresAt": Order("expires_at"),
    "name": Order("name", "text"),
    "commonName": Order("common_name", "text"),
    "status": Order("status", "text"),
    "environment": Order("environment", "text"),
}


async def page(
    session: Session,
    request: PageRequest,
    *,
    within: Scope,
    filters: Mapping[str, Any],
    order: Order,
    fields: Sequence[str] = (),
) -> dict[str, Any]:
    """A page of certificates with all fields, or with `fields` and the id."""
    shown = SHOWN
    if fields:
        shown = ", ".join(FIELDS[name] for name in dict.fromkeys(("id", *fields)))
    where = (WITHIN, *(FILTERS[name] for name in filters))
    values = {**within.sql, **filters}
    listing = Listing(shown, "managed_certificates c", where, values, order, key="c.id")
    return await fetch(session, listing, request)


async def get(session: Session, certificate_id: str, *, within: Scope) -> Row:
    """Raises NotFound for a certificate that is absent or out of scope."""
    return await session.only(
        f"certificate {certificate_id}",
        f"SELECT {SHOWN} FROM managed_certificates c WHERE c.id = %(id)s AND {WITHIN}",
        id=certificate_id,
        **within.sql,
    )


async def lock(tx: Tx, certificate_id: str, *, within: Scope) -> Row:
    """As `get`, and nobody else changes the certificate until the transaction ends."""
    return await tx.only(
        f"certificate {certificate_id}",
        f"SELECT {SHOWN} FROM managed_certificates c WHERE c.id = %(id)s AND {WITHIN} FOR UPDATE",
        id=certificate_id,
        **within.sql,
    )


async def lock_all(tx: Tx, certificate_ids: Sequence[str]) -> None:
    """Nobody else changes these until the transaction ends. Everybody locks in the order of their
    ids, so that no two wait for each other."""
    await tx.run(
        "SELECT FROM managed_certificates WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE",
        ids=list(certificate_ids),
    )


async def insert(tx: Tx, values: Mapping[str, Any]) -> bool:
    """Whether the row is new; an id that is taken changes nothing."""
    columns = ", ".join(values)
    marks = ", ".join(f"%({name})s" for name in values)
    return bool(
        await tx.run(
            f"INSERT INTO managed_certificates ({columns}) VALUES ({marks}) "
            "ON CONFLICT (id) DO NOTHING",
            **values,
        )
    )


async def update(tx: Tx, certificate_id: str, **values: Any) -> None:
    """Change the given columns of one certificate."""
    sets = "".join(f"{name} = %({name})s, " for name in values)
    await tx.run(
        f"UPDATE managed_certificates SET {sets}updated_at = now() WHERE id = %(id)s",
        id=certificate_id,
        **values,
    )


async def bind_targets(tx: Tx, certificate_id: str, target_ids: Sequence[str]) -> None:
    """Make these the targets of the certificate, and no others."""
    await tx.run(
        "DELETE FROM certificate_target_mappings WHERE certificate_id = %(id)s",
        id=certificate_id,
    )
    await tx.run(
        """INSERT INTO certificate_target_mappings (certificate_id, target_id)
           SELECT %(id)s, unnest(%(targets)s::text[])""",
        id=certificate_id,
        targets=list(target_ids),
    )


async def targets(session: Session, certificate_id: str) -> list[Row]:
    """The bound targets, each with the outcome of its newest deployment."""
    return await session.all(
        """SELECT t.id, t.name, t.type, t.agent_id, t.config, t.enabled, t.created_at,
                  t.updated_at, d.outcome, d.fingerprint_sha256, d.error, d.finished_at,
                  d.version_id
           FROM certificate_target_mappings m JOIN deployment_targets t ON t.id = m.target_id
           LEFT JOIN LATERAL (
               SELECT * FROM deployments d WHERE d.target_id = t.id
                 AND d.certificate_id = m.certificate_id ORDER BY d.finished_at DESC LIMIT 1
           ) d ON true
           WHERE m.certificate_id = %(id)s ORDER BY t.name COLLATE "C", t.id COLLATE "C" """,
        id=certificate_id,
    )


async def serving_agent(session: Session, target_id: str | None) -> str | None:
    """The agent in service that serves a target which is in use."""
    found = await session.value(
        """SELECT t.agent_id FROM deployment_targets t
           JOIN agents a ON a.id = t.agent_id AND a.retired_at IS NULL
           WHERE t.id = %(id)s AND t.enabled""",
        id=target_id,
    )
    return None if found is None else str(found)


async def mark_revoked(tx: Tx, certificate_ids: Sequence[str], *, reason: str) -> None:
    """An archived certificate stays archived, and is known to be revoked all the same."""
    await tx.run(
        """UPDATE managed_certificates SET revoked_at = now(), revocation_reason = %(reason)s,
               status = CASE status WHEN 'Archived' THEN status ELSE 'Revoked' END,
               renew_for = NULL, retry_at = NULL, updated_at = now()
           WHERE id = ANY(%(ids)s)""",
        ids=list(certificate_ids),
        reason=reason,
    )


async def retry_deployment(
    tx: Tx, certificate_id: str, target_id: str | None, *, at: datetime | None
) -> None:
    """When a deployment that failed for good is tried anew; None: it need not be."""
    await tx.run(
        """UPDATE certificate_target_mappings SET retry_at = %(at)s
           WHERE certificate_id = %(id)s AND target_id = %(target)s
             AND retry_at IS DISTINCT FROM %(at)s""",
        id=certificate_id,
        target=target_id,
        at=at,
    )


async def deployments_to_retry(session: Session) -> list[Row]:
    """Bindings whose deployment failed for good and is to be tried anew."""
    return await session.all(
        """SELECT m.certificate_id, m.target_id FROM certificate_target_mappings m
           JOIN managed_certificates c ON c.id = m.certificate_id
           WHERE m.retry_at <= now() AND c.status NOT IN ('Revoked', 'Archived')
           ORDER BY m.retry_at LIMIT 500"""
    )


async def profile_of_policy(session: Session, policy_id: str) -> str | None:
    """The one profile that a renewal policy is for, if it is for one."""
    found = await session.value(
        "SELECT certificate_profile_id FROM renewal_policies WHERE id = %(id)s", id=policy_id
    )
    return None if found is None else str(found)


async def other_profiles(session: Session, policy_id: str, profile_id: str) -> int:
    """How many certificates of a policy have another profile than this."""
    return int(
        await session.value(
            """SELECT count(*) FROM managed_certificates WHERE renewal_policy_id = %(policy)s
                 AND certificate_profile_id <> %(profile)s AND status <> 'Archived'""",
            policy=policy_id,
            profile=profile_id,
        )
    )


async def lock_standing(tx: Tx, certificate_ids: Sequence[str]) -> list[Row]:
    """How these certificates stand, those left out that are revoked or archived: locked in the
    order of their ids, with the earliest end and the shortest life of the live versions that
    count, and whether an issuance is `under_way`.

    What counts are the versions of those who still are to hold a key, or else all. An agent that
    has retired, or serves no target of the certificate any more, keeps its last version until it
    expires; nobody waits for it to be renewed.
    """
    await lock_all(tx, certificate_ids)
    return await tx.all(
        f"""SELECT c.id, c.status, c.expires_at, c.last_error, p.renewal_window_days,
                  v.not_after, v.shortest_life, EXISTS (
                      SELECT FROM jobs j WHERE j.certificate_id = c.id
                        AND j.type IN ('Issuance', 'Renewal')
                        AND j.status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running')
                  ) AS under_way
           FROM managed_certificates c JOIN renewal_policies p ON p.id = c.renewal_policy_id
           CROSS JOIN LATERAL (
               SELECT coalesce(min(h.not_after) FILTER (WHERE held), min(h.not_after))
                          AS not_after,
                      coalesce(min(h.not_after - h.not_before) FILTER (WHERE held),
                               min(h.not_after - h.not_before)) AS shortest_life
               FROM (SELECT v.not_before, v.not_after, {HELD} AS held
                     FROM certificate_versions v
                     WHERE v.certificate_id = c.id AND v.live) h) v
           WHERE c.id = ANY(%(ids)s) AND c.status NOT IN ('Revoked', 'Archived')""",
        ids=list(certificate_ids),
    )


async def settle(tx: Tx, rows: Sequence[Row], *, renewed: bool) -> None:
    """Write down where certificates stand, each with its id, status, expires_at, last_error and
    retry_at; with `renewed`, that they have a new version."""
    await tx.run(
        """UPDATE managed_certificates c SET status = s.status, expires_at = s.expires_at,
               last_error = s.last_error, retry_at = s.retry_at, updated_at = now(),
               last_renewal_at = CASE WHEN %(renewed)s THEN now() ELSE c.last_renewal_at END
           FROM unnest(%(ids)b::text[], %(statuses)b::text[], %(ends)b::timestamptz[],
                       %(errors)b::text[], %(retries)b::timestamptz[])
               AS s (id, status, expires_at, last_error, retry_at)
           WHERE c.id = s.id""",
        renewed=renewed,
        ids=[row["id"] for row in rows],
        statuses=[row["status"] for row in rows],
        ends=[row["expires_at"] for row in rows],
        errors=[row["last_error"] for row in rows],
        retries=[row["retry_at"] for row in rows],
    )


async def terms(session: Session, certificate_id: str) -> Row:
    """The profile and the policy that bind a certificate."""
    return await session.only(
        f"certificate {certificate_id}",
        """SELECT p.id AS profile_id, p.version AS profile_version, p.allowed_key_algorithms,
                  p.max_ttl_seconds, p.allowed_ekus, p.required_san_patterns, p.must_staple,
                  p.allow_single_labels, p.spiffe_uri_pattern, p.allow_short_lived,
                  p.requires_approval, p.enabled, p.crl_shards, p.must_staple_critical,
                  p.certificate_policies, p.cps_uri, r.max_retries, r.retry_interval_seconds
           FROM managed_certificates c
           JOIN certificate_profiles p ON p.id = c.certificate_profile_id
           JOIN renewal_policies r ON r.id = c.renewal_policy_id WHERE c.id = %(id)s""",
        id=certificate_id,
    )
