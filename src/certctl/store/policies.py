"""Rules over the inventory and their violations. What breaks a rule is said here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from certctl.domain.access import Scope
from certctl.domain.listing import PageRequest
from certctl.store.certificates import WITHIN
from certctl.store.db import Row, Session, Tx
from certctl.store.paging import Listing, Order, fetch

# The message of certificate `c` under rule `r`, or null where it keeps the rule. `t.lifetime` is
# that of what is about to be issued, or was when a violation was found.
BROKEN: Final = """CASE r.type
    WHEN 'AllowedIssuers' THEN
        CASE WHEN NOT (r.config->'allowed_issuer_ids') ? c.issuer_id
        THEN 'issuer ' || c.issuer_id || ' is not among the allowed' END
    WHEN 'AllowedEnvironments' THEN
        CASE WHEN NOT (r.config->'allowed') ? c.environment
        THEN 'environment ''' || c.environment || ''' is not among the allowed' END
    WHEN 'RequiredMetadata' THEN (
        SELECT 'tags are missing: ' || string_agg(k, ', ' ORDER BY k)
        FROM jsonb_array_elements_text(r.config->'required_keys') AS k
        WHERE coalesce(c.tags->>k, '') = '')
    WHEN 'AllowedDomains' THEN
        CASE WHEN cardinality(c.sans) = 0 THEN 'it has no names' ELSE (
        SELECT 'names outside the allowed domains: ' || string_agg(n, ', ' ORDER BY n)
        FROM unnest(c.sans) AS n
        WHERE NOT (r.config->'allowed_domains' ? n OR r.domains ? n
            OR (n ~ %(dns)s AND r.domains ? ('*' || substr(n, strpos(n, '.')))))) END
    WHEN 'RenewalLeadTime' THEN
        CASE WHEN c.status <> 'Revoked' AND c.expires_at > now() AND c.expires_at < now()
            + make_interval(days => (r.config->>'lead_time_days')::int)
        THEN 'less than ' || (r.config->>'lead_time_days') || ' days are left' END
    WHEN 'CertificateLifetime' THEN
        CASE WHEN greatest(t.lifetime, (
                SELECT max(v.not_after - v.not_before) FROM certificate_versions v
                WHERE v.certificate_id = c.id AND v.live))
            > make_interval(days => (r.config->>'max_days')::int)
        THEN 'a lifetime of more than ' || (r.config->>'max_days') || ' days' END
    END"""
# A wildcard stands for a label of a DNS name; mailboxes, URIs and addresses have dots as well.
DNS_NAME: Final = r"^(\*|[a-z0-9-]+)(\.[a-z0-9-]+)*\.[a-z0-9-]*[a-z][a-z0-9-]*$"
# What was about to be issued is judged anew for as long as the violation that it left stands.
LIFETIME: Final = """CASE WHEN r.type = 'CertificateLifetime' THEN
    coalesce(%(lifetime)s::interval, (SELECT v.lifetime FROM policy_violations v
        WHERE v.certificate_id = c.id AND v.rule_id = r.id AND v.resolved_at IS NULL
          AND c.status <> 'Revoked')) END"""
SHOWN: Final = (
    "v.id, v.certificate_id, v.rule_id, v.message, v.severity, v.created_at, v.resolved_at, "
    "CASE WHEN v.lifetime IS NULL THEN 'Inventory' ELSE 'Issuance' END AS found_on"
)
FILTERS: Final = {
    "rule_id": "v.rule_id = %(rule_id)s",
    "certificate_id": "v.certificate_id = %(certificate_id)s",
    "severity": "v.severity = %(severity)s",
}


# The joins are FULL or follow from the ids given, so that no plan compares all with all, whatever
# is known of the tables. What changes has its certificates locked first, in order: a change to one
# of them waits, or is waited for, and never collides.
EVALUATE: Final = f"""
    WITH asked AS MATERIALIZED (SELECT unnest(%(ids)s::text[]) AS id),
    rules AS MATERIALIZED (
        SELECT r.*, lower((r.config->'allowed_domains')::text)::jsonb AS domains
        FROM policy_rules r
        WHERE r.enabled AND (%(rule)s::text IS NULL OR r.id = %(rule)s)),
    judged AS MATERIALIZED (
        SELECT * FROM (
            SELECT r.id AS rule_id, r.severity, c.id AS certificate_id,
                   left({BROKEN}, 2000) AS message,
                   CASE WHEN t.lifetime > make_interval(days => (r.config->>'max_days')::int)
                   THEN t.lifetime END AS lifetime
            FROM asked a JOIN managed_certificates c ON c.id = a.id CROSS JOIN rules r
                CROSS JOIN LATERAL (SELECT {LIFETIME} AS lifetime) t
            WHERE c.status <> 'Archived') every
        WHERE message IS NOT NULL),
    standing AS MATERIALIZED (
        SELECT v.id, v.rule_id, v.certificate_id, v.severity, v.message, v.lifetime
        FROM asked a JOIN policy_violations v ON v.certificate_id = a.id
        WHERE v.resolved_at IS NULL AND (%(rule)s::text IS NULL OR v.rule_id = %(rule)s)),
    moved AS MATERIALIZED (
        SELECT s.id, certificate_id, rule_id, j.message, j.severity, j.lifetime, s.lifetime AS was
        FROM judged j FULL JOIN standing s USING (certificate_id, rule_id)
        WHERE (s.message, s.severity, s.lifetime)
            IS DISTINCT FROM (j.message, j.severity, j.lifetime)),
    locked AS MATERIALIZED (
        SELECT count(*) AS n FROM (
            SELECT c.id FROM managed_certificates c
            WHERE c.id IN (SELECT certificate_id FROM moved) ORDER BY c.id FOR KEY SHARE) c),
    mended AS (
        UPDATE policy_violations v
        SET message = coalesce(m.message, v.message), severity = coalesce(m.severity, v.severity),
            lifetime = CASE WHEN m.message IS NULL THEN v.lifetime ELSE m.lifetime END,
            resolved_at = CASE WHEN m.message IS NULL THEN now() END
        FROM moved m CROSS JOIN locked
        WHERE v.id = m.id AND v.resolved_at IS NULL AND v.lifetime IS NOT DISTINCT FROM m.was
        RETURNING v.id, v.certificate_id, v.rule_id, v.message, v.severity, v.resolved_at),
    made AS (
        INSERT INTO policy_violations
            (id, certificate_id, rule_id, message, severity, lifetime)
        SELECT 'pv-' || gen_random_uuid(), certificate_id, rule_id, message, severity, lifetime
        FROM moved CROSS JOIN locked WHERE id IS NULL ORDER BY certificate_id, rule_id
        ON CONFLICT (certificate_id, rule_id) WHERE resolved_at IS NULL DO NOTHING
        RETURNING id, certificate_id, rule_id, message, severity, resolved_at)
    SELECT e.*, (SELECT name FROM policy_rules r WHERE r.id = e.rule_id) AS rule
    FROM (SELECT * FROM made
          UNION ALL SELECT * FROM mended WHERE resolved_at IS NOT NULL) e
    ORDER BY certificate_id, rule_id"""


async def evaluate(
    tx: Tx,
    *,
    certificate_ids: Sequence[str],
    rule_id: str | None = None,
    lifetime: timedelta | None = None,
) -> list[Row]:
    """Store what breaks a rule, once, and resolve what does not any more, for these certificates
    and for one rule or all. The violations that are new, and those that are over, which have their
    `resolved_at`; what stands as it stood is not written.

    `lifetime` is that of what is about to be issued. Where it breaks the rule about it, the
    violation stands until another one is judged and keeps it, or the rule lets it pass.
    """
    return await tx.all(
        EVALUATE, ids=list(certificate_ids), rule=rule_id, lifetime=lifetime, dns=DNS_NAME
    )


async def standing_in_the_way(
    tx: Tx, certificate_ids: Sequence[str], *, least: str, but: Sequence[str], issuing: bool
) -> list[Row]:
    """Open violations of rules that block, or whose severity is `least` or above; rules of the
    types in `but` only where something is being issued and breaks them."""
    return await tx.all(
        """SELECT DISTINCT ON (v.certificate_id) v.certificate_id, r.name, v.message
           FROM policy_violations v JOIN policy_rules r ON r.id = v.rule_id
           WHERE v.resolved_at IS NULL AND v.certificate_id = ANY(%(ids)s)
             AND (r.type <> ALL(%(but)s) OR (%(issuing)s AND v.lifetime IS NOT NULL))
             AND (r.blocking OR
                 array_position(ARRAY['Warning', 'Error', 'Critical'], r.severity)
                 >= array_position(ARRAY['Warning', 'Error', 'Critical'], %(least)s))
           ORDER BY v.certificate_id, r.name""",
        ids=list(certificate_ids),
        least=least,
        but=list(but),
        issuing=issuing,
    )


async def batch(session: Session, *, after: str, limit: int) -> list[str]:
    """Certificates to judge, by id; archived ones too, whose violations are over."""
    rows = await session.all(
        """SELECT id FROM managed_certificates WHERE id > %(after)s ORDER BY id LIMIT %(limit)s""",
        after=after,
        limit=limit,
    )
    return [row["id"] for row in rows]


async def violations(
    session: Session,
    request: PageRequest,
    *,
    within: Scope,
    filters: Mapping[str, Any],
    resolved: bool,
) -> dict[str, Any]:
    """Newest first; those that stand, or those that are over. `filters` are names of FILTERS."""
    where = (
        WITHIN,
        *(FILTERS[name] for name in filters),
        f"v.resolved_at IS {'NOT ' if resolved else ''}NULL",
    )
    source = "policy_violations v JOIN managed_certificates c ON c.id = v.certificate_id"
    order = Order("v.created_at", descending=True)
    listing = Listing(SHOWN, source, where, {**within.sql, **filters}, order, key="v.id")
    return await fetch(session, listing, request)


async def prune(tx: Tx, before: datetime) -> int:
    """Forget what was resolved before; how many."""
    return await tx.run(
        "DELETE FROM policy_violations WHERE resolved_at < %(before)s", before=before
    )
