"""An OpenID provider that lies as a test tells it to, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, Key

from certctl.domain.openid import LOGOUT_EVENT, half_hash

Json = dict[str, Any]
ACCESS_TOKEN: Final = "an access token"
CLIENT: Final = "certctl"
SECRET: Final = "a secret/with:signs"


def b64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(claims: Json, key: Key, *, header: Json) -> str:
    return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[header["alg"]])


def unsigned(claims: Json, alg: str = "none") -> str:
    return f"{b64(json.dumps({'alg': alg}))}.{b64(json.dumps(claims))}."


def under_a_shared_secret(claims: Json, secret: str, kid: str) -> str:
    """HS256, as who takes a public key, or the client's secret, for a shared one would accept."""
    head = b64(json.dumps({"alg": "HS256", "kid": kid})) + "." + b64(json.dumps(claims))
    return f"{head}.{b64(hmac.digest(secret.encode(), head.encode(), 'sha256'))}"


@dataclass
class FakeProvider:
    """`claims`, `metadata` and `userinfo` are changes to what an honest one would say; `sign` makes
    the ID token of the claims."""

    issuer: str = ""
    key: Key = field(default_factory=lambda: ECKey.generate_key("P-256"))
    alg: str = "ES256"
    kid: str = "one"
    person: str = "ada"
    groups: Any = field(default_factory=lambda: ["ops"])
    claims: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    tokens: Json = field(default_factory=dict)
    userinfo: Json = field(default_factory=dict)
    sign: Callable[[Json], str] | None = None
    jwks: Json | None = None
    token_status: int = 200
    codes: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    # The browser's part

    def authorize(self, url: str) -> dict[str, str]:
        """What an honest provider sends back for this request."""
        query = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return {"code": code, "state": query["state"], "iss": self.issuer}

    def sign_in_claims(self, nonce: str) -> Json:
        now = int(time.time())
        honest = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": self.person,
            "exp": now + 300,
            "iat": now,
            "nonce": nonce,
            "at_hash": half_hash(ACCESS_TOKEN, self.alg),
            "email": f"{self.person}@example.test",
            "name": self.person.title(),
            "groups": self.groups,
            "sid": f"sid-of-{self.person}",
        }
        return changed(honest, self.claims)

    def logout_claims(self, **changes: Any) -> Json:
        now = int(time.time())
        honest = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "jti": f"jti-{time.monotonic_ns()}",
            "events": {LOGOUT_EVENT: {}},
            "sub": self.person,
        }
        return changed(honest, changes)

    def honest(self, claims: Json, **header: Any) -> str:
        return signed(claims, self.key, header={"alg": self.alg, "kid": self.kid, **header})

    # The server's part

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.asked.append(scope["path"])
        status, answer = self._answer(scope["path"], headers, body.decode())
        kind = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": kind})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, path: str, headers: dict[str, str], body: str) -> tuple[int, Json]:
        if path == "/.well-known/openid-configuration":
            return 200, changed(
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/auth",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "userinfo_endpoint": f"{self.issuer}/me",
                    "id_token_signing_alg_values_supported": [self.alg, "HS256"],
                    "authorization_response_iss_parameter_supported": True,
                },
                self.metadata,
            )
        if path == "/jwks":
            public = {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig"}
            return 200, self.jwks or {"keys": [public]}
        if path == "/token":
            return self._tokens(headers, body)
        if path == "/me" and headers.get("authorization") == f"Bearer {ACCESS_TOKEN}":
            return 200, {"sub": self.person, **self.userinfo}
        return 404, {}

    def _tokens(self, headers: dict[str, str], body: str) -> tuple[int, Json]:
        form = dict(parse_qsl(body))
        begun = self.codes.pop(form.get("code", ""), None)
        pair = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        name, _, secret = pair.partition(":")
        known = (unquote_plus(name), unquote_plus(secret)) == (CLIENT, SECRET)
        if begun is None or not known or self.token_status != 200:
            return (self.token_status if self.token_status != 200 else 400), {"error": "invalid"}
        challenge = b64(hashlib.sha256(form["code_verifier"].encode()).digest())
        if challenge != begun["code_challenge"] or begun["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        claims = self.sign_in_claims(begun["nonce"])
        token = (self.sign or self.honest)(claims)
        answer = {"access_token": ACCESS_TOKEN, "token_type": "Bearer", "id_token": token}
        return 200, changed(answer, self.tokens)


@dataclass(frozen=True)
class Ago:
    """So many seconds before the moment at which a claim is made."""

    seconds: int


def changed(honest: Json, changes: Json) -> Json:
    """With the changes; what is changed to None is left out."""
    now = int(time.time())
    whole = {
        name: now - value.seconds if isinstance(value, Ago) else value
        for name, value in {**honest, **changes}.items()
    }
    return {name: value for name, value in whole.items() if value is not None}
