"""What the tokens of an OpenID provider must say before anybody is signed in or out by them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from certctl.domain.errors import Unauthenticated

Claims = Mapping[str, Any]
SKEW: Final = 60  # seconds that two clocks may differ
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LONGEST: Final = 255
# Half of this hash of the access token is `at_hash` (OpenID Connect Core §3.1.3.6).
HASHES: Final = {
    "RS256": "sha256", "ES256": "sha256", "ES384": "sha384", "RS512": "sha512", "EdDSA": "sha512",
}  # fmt: skip


class Why(StrEnum):
    """The categories of refusal: what the browser and the audit trail are told."""

    NOT_BEGUN = "login_not_begun"
    TOO_LATE = "login_expired"
    ELSEWHERE = "login_elsewhere"
    STATE = "state_mismatch"
    ISSUER = "issuer_mismatch"
    PROVIDER_SAYS_NO = "provider_error"
    PROVIDER_OFF = "provider_disabled"
    UNREACHABLE = "provider_unreachable"
    EXCHANGE = "code_exchange_failed"
    MALFORMED = "token_malformed"
    ALGORITHM = "algorithm_refused"
    UNKNOWN_KEY = "key_unknown"
    SIGNATURE = "signature_invalid"
    AUDIENCE = "audience_mismatch"
    EXPIRED = "token_expired"
    ISSUED_AT = "token_age"
    NONCE = "nonce_mismatch"
    ACCESS_TOKEN = "access_token_mismatch"  # noqa: S105
    SUBJECT = "subject_invalid"
    USERINFO = "userinfo_mismatch"
    EMAIL = "email_domain"
    GROUPS = "groups_invalid"
    UNMAPPED = "unmapped_groups"
    DEACTIVATED = "user_deactivated"
    REPLAYED = "token_replayed"
    EVENT = "not_a_logout_token"


class LoginRefused(Unauthenticated):
    """Nobody is signed in, or out; `why` is the category."""

    def __init__(self, why: Why) -> None:
        super().__init__(f"the provider's answer is not accepted: {why}")
        self.why = why


@dataclass(frozen=True)
class Expected:
    """What a token must be for; `window` is the largest age of an ID token, in seconds."""

    issuer: str
    client_id: str
    window: int


def check_id_token(
    claims: Claims,
    expected: Expected,
    *,
    nonce: str,
    algorithm: str,
    access_token: str | None,
    now: datetime,
) -> None:
    """OpenID Connect Core §3.1.3.7 and §3.1.3.8, after the signature.

    Raises:
        LoginRefused: with the first thing that is wrong.
    """
    _check_origin(claims, expected)
    if _number(claims, "exp", Why.EXPIRED) + SKEW <= now.timestamp():
        raise LoginRefused(Why.EXPIRED)
    _check_age(claims, expected.window, now)
    said = claims.get("nonce")
    if not isinstance(said, str) or not _same(said, nonce):
        raise LoginRefused(Why.NONCE)
    # Optional in the code flow; what is there must be right.
    at_hash = claims.get("at_hash")
    if at_hash is not None and at_hash != half_hash(access_token or "", algorithm):
        raise LoginRefused(Why.ACCESS_TOKEN)
    subject_of(claims)


def check_logout_token(claims: Claims, expected: Expected, *, now: datetime) -> None:
    """OpenID Connect Back-Channel Logout §2.6, after the signature, but for the replay.

    Raises:
        LoginRefused: with the first thing that is wrong.
    """
    _check_origin(claims, expected)
    _check_age(claims, expected.window, now)
    if "exp" in claims and _number(claims, "exp", Why.EXPIRED) + SKEW <= now.timestamp():
        raise LoginRefused(Why.EXPIRED)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise LoginRefused(Why.EVENT)
    # An ID token must not pass for a logout token.
    if "nonce" in claims or not _text(claims.get("jti")):
        raise LoginRefused(Why.EVENT)
    whom = [claims[name] for name in ("sub", "sid") if name in claims]
    if not whom or not all(map(_text, whom)):
        raise LoginRefused(Why.SUBJECT)


def _check_origin(claims: Claims, expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise LoginRefused(Why.ISSUER)
    audience = audience_of(claims)
    if expected.client_id not in audience:
        raise LoginRefused(Why.AUDIENCE)
    party = claims.get("azp")
    if (party is None and len(audience) > 1) or party not in (None, expected.client_id):
        raise LoginRefused(Why.AUDIENCE)


def _check_age(claims: Claims, window: int, now: datetime) -> None:
    age = now.timestamp() - _number(claims, "iat", Why.ISSUED_AT)
    if not -SKEW <= age <= window:
        raise LoginRefused(Why.ISSUED_AT)


def audience_of(claims: Claims) -> list[str]:
    said = claims.get("aud")
    many = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return [each for each in many if isinstance(each, str)]


def subject_of(claims: Claims) -> str:
    """Raises LoginRefused for a subject that is no text of 1 to 255 characters."""
    subject = claims.get("sub")
    if not _text(subject):
        raise LoginRefused(Why.SUBJECT)
    return str(subject)


def half_hash(text: str, algorithm: str) -> str:
    digest = hashlib.new(HASHES[algorithm], text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _number(claims: Claims, name: str, why: Why) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise LoginRefused(why)
    return float(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _same(one: str, other: str) -> bool:
    # JSON can spell halves of surrogate pairs, which UTF-8 cannot.
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())


def session_id(claims: Claims) -> str | None:
    """The provider's own session, which a logout token may name."""
    sid = claims.get("sid")
    return sid if isinstance(sid, str) and _text(sid) else None


def access_token_in(tokens: Claims) -> str | None:
    """Raises LoginRefused for an access token that no header could carry."""
    found = tokens.get("access_token")
    if found is None:
        return None
    if not isinstance(found, str) or not (found.isascii() and found.isprintable()):
        raise LoginRefused(Why.MALFORMED)
    return found


def groups_in(claims: Claims, path: str) -> list[str] | None:
    """The groups under a claim's name, or under a dotted path into objects; None without any.

    Raises:
        LoginRefused: for something that is neither a text nor a list of texts, of 1 to 255
            characters each.
    """
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for step in path.removeprefix("$.").split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if found is None:
        return None
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, list) or not all(map(_text, groups)):
        raise LoginRefused(Why.GROUPS)
    return groups


def check_email(claims: Claims, domains: Sequence[str]) -> None:
    """Raises LoginRefused unless the address, not known to be unverified, is in one of `domains`;
    where none are named, any will do."""
    if not domains:
        return
    _, at, domain = str(claims.get("email", "")).rpartition("@")
    allowed = at and domain.lower() in {each.lower() for each in domains}
    if claims.get("email_verified") is False or not allowed:
        raise LoginRefused(Why.EMAIL)


def shown(claims: Claims) -> dict[str, str]:
    """E-mail address and name for people to read; nothing is decided by them."""
    names = (claims.get(each) for each in ("name", "preferred_username", "email"))
    return {
        "email": _plain(claims.get("email")),
        "display_name": next(filter(None, map(_plain, names)), ""),
    }


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(each for each in text if each.isprintable())[:LONGEST]
