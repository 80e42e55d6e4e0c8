"""OpenID providers, what they say of themselves, group mappings, and logins under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from certctl.store.db import Row, Session, Tx

COLUMNS: Final = """p.id, p.name, p.issuer_url, p.client_id, p.redirect_uri, p.groups_claim_path,
    p.groups_claim_format, p.fetch_userinfo, p.scopes, p.allowed_email_domains,
    p.iat_window_seconds, p.jwks_cache_ttl_seconds, p.enabled, p.created_at, p.updated_at"""
WHOLE: Final = f"""{COLUMNS}, p.sealed_client_secret, d.metadata, d.jwks,
    coalesce(d.fetched_at > now() - make_interval(secs => p.jwks_cache_ttl_seconds), false)
        AS is_fresh"""
FROM: Final = "oidc_providers p LEFT JOIN oidc_discoveries d ON d.provider_id = p.id"


async def providers(session: Session) -> list[Row]:
    return await session.all(f"SELECT {COLUMNS} FROM oidc_providers p ORDER BY p.created_at, p.id")


async def get(session: Session, provider_id: str) -> Row:
    """A provider with its sealed secret, and what was last fetched of it."""
    return await session.only(
        f"provider {provider_id}",
        f"SELECT {WHOLE} FROM {FROM} WHERE p.id = %(id)s",
        id=provider_id,
    )


async def lock(tx: Tx, provider_id: str) -> Row:
    """As `get`, and nobody else changes the provider until the transaction ends."""
    return await tx.only(
        f"provider {provider_id}",
        f"SELECT {WHOLE} FROM {FROM} WHERE p.id = %(id)s FOR UPDATE OF p",
        id=provider_id,
    )


async def of_client(session: Session, issuer: str, client_ids: Sequence[str]) -> Row | None:
    """The enabled provider with this issuer for which one of the clients is ours."""
    return await session.one(
        f"""SELECT {WHOLE} FROM {FROM} WHERE p.issuer_url = %(issuer)s
            AND p.client_id = ANY (%(clients)s) AND p.enabled ORDER BY p.id LIMIT 1""",
        issuer=issuer,
        clients=list(client_ids),
    )


async def insert(tx: Tx, provider_id: str, values: Mapping[str, Any]) -> Row:
    await tx.insert("oidc_providers", [{"id": provider_id, **values}])
    return await _shown(tx, provider_id)


async def update(tx: Tx, provider_id: str, values: Mapping[str, Any]) -> Row:
    sets = "".join(f"{name} = %({name})s, " for name in values)
    await tx.run(
        f"UPDATE oidc_providers SET {sets}updated_at = now() WHERE id = %(id)s",
        **{**values, "id": provider_id},
    )
    return await _shown(tx, provider_id)


async def _shown(session: Session, provider_id: str) -> Row:
    return await session.only(
        f"provider {provider_id}",
        f"SELECT {COLUMNS} FROM oidc_providers p WHERE p.id = %(id)s",
        id=provider_id,
    )


async def users(session: Session, provider_id: str) -> int:
    """How many people have come in by a provider."""
    return int(
        await session.value(
            "SELECT count(*) FROM users WHERE oidc_provider_id = %(id)s", id=provider_id
        )
    )


async def delete(tx: Tx, provider_id: str) -> None:
    await tx.run("DELETE FROM oidc_providers WHERE id = %(id)s", id=provider_id)


async def discovery(session: Session, provider_id: str) -> Row | None:
    return await session.one(
        "SELECT * FROM oidc_discoveries WHERE provider_id = %(id)s", id=provider_id
    )


async def put_discovery(
    session: Session, provider_id: str, *, metadata: Mapping[str, Any], jwks: Mapping[str, Any]
) -> None:
    await session.run(
        """INSERT INTO oidc_discoveries AS d
               (provider_id, metadata, jwks, fetched_at, refresh_count)
           VALUES (%(id)s, %(metadata)s, %(jwks)s, now(), 1)
           ON CONFLICT (provider_id) DO UPDATE SET metadata = excluded.metadata,
               jwks = excluded.jwks, fetched_at = now(), last_error = '',
               refresh_count = d.refresh_count + 1""",
        id=provider_id,
        metadata=dict(metadata),
        jwks=dict(jwks),
    )


async def forget_discovery(tx: Tx, provider_id: str) -> None:
    await tx.run("DELETE FROM oidc_discoveries WHERE provider_id = %(id)s", id=provider_id)


async def note_failure(session: Session, provider_id: str, error: str) -> None:
    """Why the provider could not be asked; what was known of it stays."""
    await session.run(
        """INSERT INTO oidc_discoveries (provider_id, last_error) VALUES (%(id)s, %(error)s)
           ON CONFLICT (provider_id) DO UPDATE SET last_error = excluded.last_error""",
        id=provider_id,
        error=error,
    )


async def note_rejected(session: Session, provider_id: str) -> None:
    """That a token which claims to be of the provider was not accepted."""
    await session.run(
        "UPDATE oidc_discoveries SET rejected = rejected + 1 WHERE provider_id = %(id)s",
        id=provider_id,
    )


async def may_ask_anew(session: Session, provider_id: str, *, gap: timedelta) -> bool:
    """Whether the keys may be fetched again for an unknown one; asked once in `gap` at most, since
    strangers can name unknown keys at will."""
    return bool(
        await session.run(
            """UPDATE oidc_discoveries SET asked_anew_at = now() WHERE provider_id = %(id)s
               AND (asked_anew_at IS NULL OR asked_anew_at < now() - %(gap)s)""",
            id=provider_id,
            gap=gap,
        )
    )


async def mappings(session: Session, provider_id: str) -> list[Row]:
    return await session.all(
        """SELECT id, provider_id, group_name, role_id, created_at FROM group_role_mappings
           WHERE provider_id = %(id)s ORDER BY group_name COLLATE "C", role_id""",
        id=provider_id,
    )


async def insert_mapping(tx: Tx, values: Mapping[str, Any]) -> None:
    await tx.insert("group_role_mappings", [values])


async def delete_mapping(tx: Tx, mapping_id: str) -> Row:
    """The mapping that was; raises NotFound."""
    return await tx.only(
        f"mapping {mapping_id}",
        """DELETE FROM group_role_mappings WHERE id = %(id)s
           RETURNING id, provider_id, group_name, role_id""",
        id=mapping_id,
    )


async def roles_for(session: Session, provider_id: str, groups: Sequence[str]) -> list[str]:
    """The ids of the roles that these groups lead to."""
    rows = await session.all(
        """SELECT DISTINCT role_id FROM group_role_mappings
           WHERE provider_id = %(id)s AND group_name = ANY (%(groups)s) ORDER BY role_id""",
        id=provider_id,
        groups=list(groups),
    )
    return [row["role_id"] for row in rows]


async def begin_login(session: Session, values: Mapping[str, Any]) -> None:
    await session.insert("oidc_pre_login_sessions", [values])


async def take_login(session: Session, cookie_hash: bytes) -> Row | None:
    """The login under way with this cookie, which is over by this."""
    return await session.one(
        """DELETE FROM oidc_pre_login_sessions WHERE cookie_hash = %(hash)s
           RETURNING id, provider_id, ip_address, user_agent, expires_at <= now() AS is_late""",
        hash=cookie_hash,
    )


async def consume_jti(tx: Tx, provider_id: str, jti: str) -> bool:
    """Whether a logout token with this id comes for the first time."""
    return bool(
        await tx.run(
            """INSERT INTO oidc_bcl_consumed_jtis (provider_id, jti) VALUES (%(id)s, %(jti)s)
               ON CONFLICT DO NOTHING""",
            id=provider_id,
            jti=jti,
        )
    )


async def prune(tx: Tx) -> None:
    """Forget logins that were never finished, and ids of logout tokens too old to be accepted."""
    await tx.run("DELETE FROM oidc_pre_login_sessions WHERE expires_at < now()")
    await tx.run("DELETE FROM oidc_bcl_consumed_jtis WHERE consumed_at < now() - interval '1 day'")


async def subjects(
    session: Session, provider_id: str, *, sub: str | None, sid: str | None
) -> list[str]:
    """The ids of the users of a provider that a logout token means."""
    rows = await session.all(
        """SELECT u.id FROM users u WHERE u.oidc_provider_id = %(provider)s
             AND (%(sub)s::text IS NULL OR u.oidc_subject = %(sub)s)
             AND (%(sid)s::text IS NULL OR EXISTS (
                 SELECT FROM sessions s WHERE s.user_id = u.id AND s.oidc_sid = %(sid)s))
           ORDER BY u.id""",
        provider=provider_id,
        sub=sub,
        sid=sid,
    )
    return [row["id"] for row in rows]
