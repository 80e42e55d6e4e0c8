"""Signed tokens of others (RFC 7515, RFC 7519), under keys that were fetched before (RFC 7517)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from certctl.domain.openid import LoginRefused, Why

# The only algorithms, each with the one kind of key that fits it: a token cannot choose `none`, and
# cannot make a public key into a shared secret.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}
KEYS: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}
PUBLIC: Final = frozenset({"kty", "crv", "n", "e", "x", "y"})
LONGEST: Final = 65_536  # characters of a token
SHORTEST_RSA: Final = 2048  # bits
LONGEST_RSA: Final = 8192


class _Pinned(jws.JWSRegistry):
    """Knows the algorithms above and no other. The library's own warns of `EdDSA`, the name by
    which providers still call Ed25519 (RFC 9864 §2.2)."""

    max_header_length = 8192  # some providers send a certificate chain

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"{name} is not accepted")
        return self.algorithms[name]


REGISTRY: Final = _Pinned(strict_check_header=False)


@dataclass(frozen=True)
class Token:
    """Header and claims; `verified` is the only maker of ones to trust."""

    algorithm: str
    claims: dict[str, Any]


def unverified(token: str) -> dict[str, Any]:
    """The claims as they stand, to find out whose keys to ask for.

    Raises:
        LoginRefused: for what is no compact token.
    """
    return _object(_parts(token)[1])


def verified(token: str, jwks: Mapping[str, Any]) -> Token:
    """The token under one of the keys.

    Raises:
        LoginRefused: with UNKNOWN_KEY when no key fits, which other keys may mend; with MALFORMED,
            ALGORITHM or SIGNATURE when nothing would.
    """
    header = _object(_parts(token)[0])
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise LoginRefused(Why.ALGORITHM)
    if "crit" in header or "b64" in header:
        raise LoginRefused(Why.MALFORMED)
    try:
        key = KEYS[ALGORITHMS[algorithm][0]].import_key(_fitting(jwks, header, algorithm))
        signed = jws.deserialize_compact(token, key, registry=REGISTRY)
        claims = json.loads(signed.payload)
    except JoseError:
        raise LoginRefused(Why.SIGNATURE) from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LoginRefused(Why.MALFORMED) from None
    if not isinstance(claims, dict):
        raise LoginRefused(Why.MALFORMED)
    return Token(algorithm, claims)


def _fitting(jwks: Mapping[str, Any], header: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """The one key that is named, or when the token names none, the only one that fits."""
    found = [each for each in _keys(jwks) if _fits(each, algorithm)]
    if "kid" in header:
        found = [each for each in found if each.get("kid") == header["kid"]]
    if len(found) != 1:
        raise LoginRefused(Why.UNKNOWN_KEY)
    return {name: value for name, value in found[0].items() if name in PUBLIC}


def _keys(jwks: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = jwks.get("keys")
    return [each for each in keys if isinstance(each, dict)] if isinstance(keys, list) else []


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    kind, curve = ALGORITHMS[algorithm]
    if key.get("kty") != kind or (curve and key.get("crv") != curve):
        return False
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
        return False
    return kind != "RSA" or SHORTEST_RSA <= _bits(key.get("n")) <= LONGEST_RSA


def _bits(number: Any) -> int:
    try:
        return int.from_bytes(_bytes(number)).bit_length()
    except (ValueError, TypeError):
        return 0


def key_ids(jwks: Mapping[str, Any]) -> list[str]:
    """The names of the keys that one of the algorithms may use."""
    return [
        str(each.get("kid", ""))
        for each in _keys(jwks)
        if any(_fits(each, algorithm) for algorithm in ALGORITHMS)
    ]


def _parts(token: str) -> list[str]:
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST or not token.isascii():
        raise LoginRefused(Why.MALFORMED)
    return parts


def _object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(part))
    except (ValueError, RecursionError):
        raise LoginRefused(Why.MALFORMED) from None
    if not isinstance(value, dict):
        raise LoginRefused(Why.MALFORMED)
    return value


def _bytes(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
