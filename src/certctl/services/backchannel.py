"""Back-channel logout: a provider says that somebody's session there is over."""

from __future__ import annotations

import logging

from certctl.domain.access import ActorType
from certctl.domain.audit import Category
from certctl.domain.errors import Invalid, Refused
from certctl.domain.openid import (
    Claims,
    Expected,
    LoginRefused,
    Why,
    audience_of,
    check_logout_token,
)
from certctl.pki import jws
from certctl.services import audit, discovery
from certctl.services.access import BACK_CHANNEL
from certctl.services.platform import Platform
from certctl.services.sessions import Caller
from certctl.store import oidc, sessions
from certctl.store.db import Row, Tx

log = logging.getLogger("certctl.signin")


async def log_out(on: Platform, token: str, *, caller: Caller) -> int:
    """End the sessions that a logout token means (OpenID Connect Back-Channel Logout §2.6); how
    many there were. One that was begun with a password stays.

    Raises:
        Invalid: for a token that is not accepted. Unavailable: when that cannot be found out now.
    """
    try:
        provider = await _provider(on, jws.unverified(token))
        return await _end(on, provider, token, caller)
    except (LoginRefused, Refused) as error:
        why = error.why if isinstance(error, LoginRefused) else Why.UNREACHABLE
        # Anybody can send tokens: those that are refused are counted and logged, not audited.
        log.warning("a logout token was refused: %s", why)
        raise Invalid(f"the logout token is not accepted: {why}", field="logout_token") from None


async def _provider(on: Platform, claims: Claims) -> Row:
    """Whose token it claims to be."""
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise LoginRefused(Why.ISSUER)
    async with on.db.read() as session:
        provider = await oidc.of_client(session, issuer, audience_of(claims))
    if provider is None:
        raise LoginRefused(Why.ISSUER)
    return provider


async def _end(on: Platform, provider: Row, token: str, caller: Caller) -> int:
    try:
        claims = (await discovery.verified(on, provider, token)).claims
        age = int(on.terms.people.logout_token_age.total_seconds())
        expected = Expected(provider["issuer_url"], provider["client_id"], age)
        check_logout_token(claims, expected, now=on.clock())
    except LoginRefused:
        async with on.db.read() as session:
            await oidc.note_rejected(session, provider["id"])
        raise
    async with on.db.transaction() as tx:
        # In one transaction with what it does: a token whose work failed may come again.
        if not await oidc.consume_jti(tx, provider["id"], claims["jti"]):
            raise LoginRefused(Why.REPLAYED)
        return await _end_sessions(tx, provider["id"], claims, caller)


async def _end_sessions(tx: Tx, provider_id: str, claims: Claims, caller: Caller) -> int:
    sub, sid = claims.get("sub"), claims.get("sid")
    ended = 0
    for user_id in await oidc.subjects(tx, provider_id, sub=sub, sid=sid):
        gone = await sessions.revoke_of(
            tx, user_id, because=BACK_CHANNEL, signed_in_by="oidc", oidc_sid=sid
        )
        ended += len(gone)
        await audit.record(
            tx,
            caller.as_actor(provider_id, ActorType.SYSTEM),
            "oidc_back_channel_logout",
            on=("user", user_id),
            category=Category.AUTH,
            sessions=gone,
        )
    return ended
