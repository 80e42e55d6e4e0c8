"""Signing in by an OpenID provider: the code flow with PKCE, and what of it becomes a user.

Nothing of a login under way is kept but the hash of a cookie: state, nonce and PKCE verifier follow
from the cookie's secret, which only the browser has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from certctl.connectors import openid
from certctl.domain.access import ActorType
from certctl.domain.audit import Category
from certctl.domain.errors import NotFound, Refused, Unavailable
from certctl.domain.ids import new_id
from certctl.domain.openid import (
    Expected,
    LoginRefused,
    Why,
    access_token_in,
    check_email,
    check_id_token,
    groups_in,
    session_id,
    shown,
    subject_of,
)
from certctl.services import audit, discovery, providers, sessions
from certctl.services.access import LONGEST_AGENT, secret_hash
from certctl.services.platform import Platform
from certctl.services.sessions import Caller, Opened
from certctl.store import oidc, roles, users
from certctl.store.db import Row, Tx

T = TypeVar("T")
PATIENCE: Final = timedelta(minutes=10)
ADMIN: Final = "r-admin"


@dataclass(frozen=True)
class Login:
    """What a login under way has with it, made of the secret in the browser's cookie."""

    secret: str

    def part(self, name: str) -> str:
        """256 bits that tell nothing of the secret or of another part."""
        digest = hmac.digest(self.secret.encode(), name.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @property
    def challenge(self) -> str:
        """S256 of the verifier (RFC 7636 §4.2)."""
        digest = hashlib.sha256(self.part("verifier").encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def begin(on: Platform, provider_id: str, *, caller: Caller) -> tuple[str, str]:
    """The provider's URL to send the browser to, and the secret of the cookie to send with it.

    Raises:
        NotFound: for a provider that is not, or is off. Unavailable, Refused: when the provider
            cannot be asked, or must not be used.
    """
    async with on.db.read() as session:
        provider = await oidc.get(session, provider_id)
    if not provider["enabled"]:
        raise NotFound(f"provider {provider_id} does not exist")
    known = await discovery.of(on, provider)
    login = Login(secrets.token_urlsafe(32))
    async with on.db.transaction() as tx:
        values = {
            "id": f"pl-{secrets.token_urlsafe(16)}",
            "cookie_hash": secret_hash(login.secret),
            "provider_id": provider_id,
            "ip_address": caller.address,
            "user_agent": caller.user_agent[:LONGEST_AGENT],
            "expires_at": tx.now + PATIENCE,
        }
        await oidc.begin_login(tx, values)
    query = {
        "response_type": "code",
        "client_id": provider["client_id"],
        "redirect_uri": provider["redirect_uri"],
        "scope": " ".join(provider["scopes"]),
        "state": login.part("state"),
        "nonce": login.part("nonce"),
        "code_challenge": login.challenge,
        "code_challenge_method": "S256",
    }
    where = str(known.metadata["authorization_endpoint"])
    return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}", login.secret


async def finish(
    on: Platform, answer: Mapping[str, str], secret: str | None, *, caller: Caller
) -> Opened:
    """A session for whom the provider vouches; `answer` is the query that the browser brings. The
    login under way is over by this, whatever comes of it.

    Raises:
        LoginRefused: with the category; nobody is signed in.
    """
    login = Login(secret or "")
    async with on.db.read() as session:
        row = await oidc.take_login(session, secret_hash(login.secret))
    if row is None:
        # Not audited: anybody can come back from a login that never began.
        raise LoginRefused(Why.NOT_BEGUN)
    try:
        _check_same_browser(on, row, caller)
        async with on.db.read() as session:
            provider = await oidc.get(session, row["provider_id"])
        claims, groups = await _vouched(on, provider, login, answer)
        return await _provisioned(on, provider, claims, groups, caller=caller)
    except LoginRefused as error:
        await _refused(on, row["provider_id"], error.why, caller)
        raise


def _check_same_browser(on: Platform, row: Row, caller: Caller) -> None:
    """The login ends in time, where and with what it began."""
    if row["is_late"]:
        raise LoginRefused(Why.TOO_LATE)
    people = on.terms.people
    moved = people.login_binds_ip and row["ip_address"] != caller.address
    other = row["user_agent"] != caller.user_agent[:LONGEST_AGENT]
    if moved or (people.login_binds_user_agent and other):
        raise LoginRefused(Why.ELSEWHERE)


async def _vouched(
    on: Platform, provider: Row, login: Login, answer: Mapping[str, str]
) -> tuple[Mapping[str, Any], list[str]]:
    """The claims and groups of whom the provider vouches for, everything checked."""
    if not provider["enabled"]:
        raise LoginRefused(Why.PROVIDER_OFF)
    known = await _asked(discovery.of(on, provider), Why.UNREACHABLE)
    _check_answer(answer, login, issuer=provider["issuer_url"], metadata=known.metadata)
    async with openid.opened(on.reach, provider["issuer_url"]) as asked:
        form = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": provider["redirect_uri"],
            "code_verifier": login.part("verifier"),
        }
        client = {
            "client_id": provider["client_id"],
            "client_secret": providers.client_secret(on, provider),
        }
        tokens = await _asked(asked.tokens(known.metadata, form, **client), Why.EXCHANGE)
        access_token = access_token_in(tokens)
        claims = await _claims(on, provider, login, tokens.get("id_token"), access_token)
        more: Mapping[str, Any] = {}
        if provider["fetch_userinfo"] and "userinfo_endpoint" in known.metadata and access_token:
            more = await _asked(asked.userinfo(known.metadata, access_token), Why.USERINFO)
            if more.get("sub") != claims["sub"]:
                raise LoginRefused(Why.USERINFO)
    whole = {**more, **claims}
    check_email(whole, provider["allowed_email_domains"])
    return whole, groups_in(whole, provider["groups_claim_path"]) or []


async def _asked(answer: Awaitable[T], why: Why) -> T:
    """What the provider answers; LoginRefused when it does not, or says no."""
    try:
        return await answer
    except (Unavailable, Refused):
        raise LoginRefused(why) from None


def _check_answer(
    answer: Mapping[str, str], login: Login, *, issuer: str, metadata: Mapping[str, Any]
) -> None:
    """The state, who answers (RFC 9207 §2.4), and that there is a code."""
    state = answer.get("state", "")
    if not hmac.compare_digest(state.encode(), login.part("state").encode()):
        raise LoginRefused(Why.STATE)
    said = answer.get("iss")
    must = metadata.get("authorization_response_iss_parameter_supported") is True
    if (said is None and must) or said not in (None, issuer):
        raise LoginRefused(Why.ISSUER)
    if "error" in answer or not answer.get("code"):
        raise LoginRefused(Why.PROVIDER_SAYS_NO)


async def _claims(
    on: Platform, provider: Row, login: Login, id_token: Any, access_token: str | None
) -> Mapping[str, Any]:
    """What the ID token says, if it is one for this login."""
    if not isinstance(id_token, str):
        raise LoginRefused(Why.MALFORMED)
    try:
        token = await _asked(discovery.verified(on, provider, id_token), Why.UNREACHABLE)
        check_id_token(
            token.claims,
            Expected(provider["issuer_url"], provider["client_id"], provider["iat_window_seconds"]),
            nonce=login.part("nonce"),
            algorithm=token.algorithm,
            access_token=access_token,
            now=on.clock(),
        )
    except LoginRefused:
        async with on.db.read() as session:
            await oidc.note_rejected(session, provider["id"])
        raise
    return token.claims


async def _provisioned(
    on: Platform,
    provider: Row,
    claims: Mapping[str, Any],
    groups: Sequence[str],
    *,
    caller: Caller,
) -> Opened:
    """The user, their mapped roles and a session, in one transaction."""
    refused: LoginRefused | None = None
    async with on.db.transaction() as tx:
        mapped = await oidc.roles_for(tx, provider["id"], groups)
        first = await _is_first_admin(on, tx, provider["id"], groups)
        if not mapped and not first:
            await _unmapped(tx, provider["id"], subject_of(claims))
            refused = LoginRefused(Why.UNMAPPED)
        else:
            user = await _user(tx, provider["id"], claims)
            if first:
                await _make_admin(tx, user["id"], caller)
            return await _session(on, tx, user, provider["id"], mapped, claims, caller=caller)
    raise refused


async def _user(tx: Tx, provider_id: str, claims: Mapping[str, Any]) -> Row:
    values = {"provider": provider_id, "subject": subject_of(claims), **shown(claims)}
    user = await users.provision(tx, new_id("u", tx.now), values)
    if user["deactivated_at"] is not None:
        raise LoginRefused(Why.DEACTIVATED)
    return user


async def _session(
    on: Platform,
    tx: Tx,
    user: Row,
    provider_id: str,
    mapped: Sequence[str],
    claims: Mapping[str, Any],
    *,
    caller: Caller,
) -> Opened:
    await roles.replace_mapped(
        tx, ActorType.USER, user["id"], mapped, granted_by=_giver(provider_id)
    )
    opened = await sessions.begin(
        on,
        tx,
        user["id"],
        by="oidc",
        caller=caller,
        sid=session_id(claims),
    )
    await audit.record(
        tx,
        caller.as_actor(user["id"], ActorType.USER),
        "oidc_login",
        on=("user", user["id"]),
        category=Category.AUTH,
        provider_id=provider_id,
        is_new=user["is_new"],
        role_ids=list(mapped),
    )
    return opened


async def _unmapped(tx: Tx, provider_id: str, subject: str) -> None:
    """Whoever is in no mapped group any more has no mapped role either."""
    for user_id in await oidc.subjects(tx, provider_id, sub=subject, sid=None):
        giver = _giver(provider_id)
        await roles.replace_mapped(tx, ActorType.USER, user_id, [], granted_by=giver)


def _giver(provider_id: str) -> str:
    """What tells roles by mapping from those given by hand."""
    return f"oidc:{provider_id}"


async def _is_first_admin(on: Platform, tx: Tx, provider_id: str, groups: Sequence[str]) -> bool:
    """Whether the operator's setting makes this person an administrator: no person is one yet."""
    people = on.terms.people
    if provider_id != people.first_admin_provider_id or not set(groups) & set(
        people.first_admin_groups
    ):
        return False
    await roles.lock_administration(tx)
    found = await roles.administrators(tx, breakglass=people.breakglass)
    return not found["a_person"]


async def _make_admin(tx: Tx, user_id: str, caller: Caller) -> None:
    await roles.assign(tx, ActorType.USER, user_id, role_id=ADMIN, granted_by="system:bootstrap")
    await audit.record(
        tx,
        caller.as_actor(user_id, ActorType.USER),
        "bootstrap.oidc_first_admin",
        on=("user", user_id),
        category=Category.AUTH,
        role_ids=[ADMIN],
    )


async def _refused(on: Platform, provider_id: str, why: Why, caller: Caller) -> None:
    async with on.db.transaction() as tx:
        await audit.record(
            tx,
            caller.as_actor("anonymous"),
            "oidc_login_failed",
            on=("oidc_provider", provider_id),
            category=Category.AUTH,
            reason=why,
        )
