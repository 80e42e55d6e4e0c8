"""Managed certificates and the targets they are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "created_after": "c.created_at > %(created_after)s",
    "updated_after": "c.updated_at > %(updated_after)s",
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


async def holders(session: Session, certificate_id: str) -> list[str]:
    """The agents that hold a key of this certificate: those of its enabled targets."""
    rows = await session.all(
        """SELECT DISTINCT t.agent_id FROM certificate_target_mappings m
           JOIN deployment_targets t ON t.id = m.target_id AND t.enabled
           JOIN agents a ON a.id = t.agent_id AND a.retired_at IS NULL
           WHERE m.certificate_id = %(id)s ORDER BY t.agent_id""",
        id=certificate_id,
    )
    return [row["agent_id"] for row in rows]


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


async def due(session: Session, limit: int) -> list[Row]:
    """Live versions that may be due: policy renews by itself, nothing is under way, and the agent
    still is to hold a key.

    The window is the policy's, bounded to a third of the lifetime as `domain.renewal` decides;
    names that the live version lacks make it due as well.
    """
    return await session.all(
        f"""SELECT c.id, c.sans, c.common_name, v.not_before, v.not_after, v.sans AS live_sans,
                  v.agent_id, p.renewal_window_days
           FROM certificate_versions v
           JOIN managed_certificates c ON c.id = v.certificate_id
           JOIN renewal_policies p ON p.id = c.renewal_policy_id AND p.auto_renew
           WHERE v.live AND v.revoked_at IS NULL AND v.agent_id IS NOT NULL AND {HELD}
             AND c.status IN ('Active', 'Expiring', 'Expired')
             AND (v.not_after - least(make_interval(days => p.renewal_window_days),
                      (v.not_after - v.not_before) / 3) <= now()
                  OR NOT c.sans <@ v.sans)
           ORDER BY v.not_after LIMIT %(limit)s""",
        limit=limit,
    )


async def settle(session: Session) -> int:
    """Bring Active, Expiring and Expired into line with the clock; the number changed."""
    return await session.run(
        """UPDATE managed_certificates c SET status = s.status, updated_at = now()
           FROM (SELECT c.id, CASE WHEN c.expires_at <= now() THEN 'Expired'
                    WHEN c.expires_at <= now() + make_interval(days => p.renewal_window_days)
                    THEN 'Expiring' ELSE 'Active' END AS status
                 FROM managed_certificates c
                 JOIN renewal_policies p ON p.id = c.renewal_policy_id
                 WHERE c.status IN ('Active', 'Expiring', 'Expired')) s
           WHERE s.id = c.id AND c.status IN ('Active', 'Expiring', 'Expired')
             AND s.status <> c.status"""
    )


async def renewal_window_days(session: Session, certificate_id: str) -> int:
    return int(
        await session.value(
            """SELECT p.renewal_window_days FROM managed_certificates c
               JOIN renewal_policies p ON p.id = c.renewal_policy_id WHERE c.id = %(id)s""",
            id=certificate_id,
        )
    )


async def terms(session: Session, certificate_id: str) -> Row:
    """The profile and the policy that bind a certificate."""
    return await session.only(
        f"certificate {certificate_id}",
        """SELECT p.id AS profile_id, p.version AS profile_version, p.allowed_key_algorithms,
                  p.max_ttl_seconds, p.allowed_ekus, p.required_san_patterns, p.must_staple,
                  p.allow_single_labels, p.enabled, r.max_retries
           FROM managed_certificates c
           JOIN certificate_profiles p ON p.id = c.certificate_profile_id
           JOIN renewal_policies r ON r.id = c.renewal_policy_id WHERE c.id = %(id)s""",
        id=certificate_id,
    )
