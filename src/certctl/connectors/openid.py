"""What is asked of an OpenID provider: what it says of itself, its keys, tokens, and claims."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx

from certctl.connectors import http
from certctl.connectors.reach import Reach
from certctl.domain.errors import Invalid, Refused

WELL_KNOWN: Final = "/.well-known/openid-configuration"
JSON: Final = {"Accept": "application/json"}
ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
KEPT: Final = (
    "issuer",
    *ENDPOINTS,
    "userinfo_endpoint",
    "token_endpoint_auth_methods_supported",
    "id_token_signing_alg_values_supported",
    "authorization_response_iss_parameter_supported",
)


def checked_url(url: str, *, field: str, plain: bool = True) -> str:
    """A URL to call: https, or with `plain` also http to a loopback address, which a laboratory
    needs; whether it may be called at all is the reach's to say.

    Raises:
        Invalid: naming `field`.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise Invalid(f"{field} is not a URL", field=field) from None
    secure = parts.scheme == "https" or (plain and parts.scheme == "http" and _is_loopback(host))
    more = parts.username or parts.fragment or not (url.isascii() and url.isprintable())
    if not secure or not host or more:
        raise Invalid(f"{field} must be an https URL, without user and fragment", field=field)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Provider:
    """One provider over one client; `issuer` is compared, never mended."""

    def __init__(self, through: httpx.AsyncClient, issuer: str) -> None:
        self._through = through
        self.issuer = issuer

    async def metadata(self) -> dict[str, Any]:
        """What it says of itself (OpenID Connect Discovery §4), as far as we need it.

        Raises:
            Unavailable: no usable answer. Refused: it names another issuer, or lacks an endpoint.
        """
        said = await self._json("GET", self.issuer.rstrip("/") + WELL_KNOWN)
        if said.get("issuer") != self.issuer:
            raise Refused("the provider names another issuer than the one that is configured")
        for name in (*ENDPOINTS, "userinfo_endpoint"):
            if name in ENDPOINTS or name in said:
                _endpoint(said, name)
        return {name: said[name] for name in KEPT if name in said}

    async def keys(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Its keys (RFC 7517)."""
        return await self._json("GET", _endpoint(metadata, "jwks_uri"))

    async def tokens(
        self,
        metadata: Mapping[str, Any],
        form: Mapping[str, str],
        *,
        client_id: str,
        client_secret: str,
    ) -> dict[str, Any]:
        """The tokens for a code (RFC 6749 §4.1.3), by the client's secret."""
        headers, sent = dict(JSON), dict(form)
        ways = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" in ways or "client_secret_post" not in ways:
            # Both form-encoded first (RFC 6749 §2.3.1).
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            sent |= {"client_id": client_id, "client_secret": client_secret}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        url, content = _endpoint(metadata, "token_endpoint"), urlencode(sent).encode()
        return await self._json("POST", url, headers=headers, content=content)

    async def userinfo(self, metadata: Mapping[str, Any], access_token: str) -> dict[str, Any]:
        """More claims (OpenID Connect Core §5.3)."""
        headers = {**JSON, "Authorization": f"Bearer {access_token}"}
        return await self._json("GET", _endpoint(metadata, "userinfo_endpoint"), headers=headers)

    async def _json(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = JSON,
        content: bytes | None = None,
    ) -> dict[str, Any]:
        answer = await http.ask(self._through, method, url, headers=headers, content=content)
        try:
            said = json.loads(http.accepted(answer, url).body)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise Refused(f"{http.place(url)} did not answer with a JSON object")
        return said


def _endpoint(metadata: Mapping[str, Any], name: str) -> str:
    try:
        return checked_url(str(metadata.get(name, "")), field=name)
    except Invalid as error:
        raise Refused(f"the provider's {error.message}") from None


@asynccontextmanager
async def opened(reach: Reach, issuer: str) -> AsyncIterator[Provider]:
    """A provider to ask. Its connections end with the block."""
    async with http.client(reach) as through:
        yield Provider(through, issuer)
