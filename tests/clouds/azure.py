"""Azure Key Vault, as far as certctl asks it: its REST API over TLS, its errors, and the token of a
managed identity that it wants."""

from __future__ import annotations

import base64
import itertools
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.connectors.signers.azure_key_vault import CURVES, RSA_SIZES, AzureKeyVault
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm, PrivateKey
from tests.clouds.server import Asked, Json, Said, Server, signature
from tests.connectors.kit import Authority, key_pem

SECRET = "what Azure tells its customers alone"
TOKEN = "a token of a managed identity"
KINDS = {("EC", curve): algorithm for algorithm, curve in CURVES.items()} | {
    ("RSA", size): algorithm for algorithm, size in RSA_SIZES.items()
}


def refusal(status: int, code: str, inner: str = "") -> Said:
    error: Json = {"code": code, "message": SECRET}
    if inner:
        error["innererror"] = {"code": inner}
    return Said({"error": error}, status)


class Identity(Server):
    """The endpoint that hands tokens to what runs in Azure."""

    def answer(self, asked: Asked) -> Said:
        if asked.headers.get("X-Identity-Header") != "ours":
            return Said({}, 401)
        until = str(int(time.time()) + 3600)
        return Said({"access_token": TOKEN, "expires_on": until, "token_type": "Bearer"})


class Azure(Server):
    """Keys by name, each with its versions, oldest first."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(tls=tls)
        self.keys: dict[str, dict[str, PrivateKey]] = {}
        self._versions = itertools.count(1)

    def open(self, timeout: timedelta = timedelta(seconds=10)) -> AzureKeyVault:
        return AzureKeyVault(self.url, protection="SOFTWARE", timeout=timeout)

    def answer(self, asked: Asked) -> Said:
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            # The library asks that the resource be a parent of the vault's own name.
            where = (
                f'authorization="https://127.0.0.1/tenant", resource="https://0.0.1:{self.port}"'
            )
            return Said({}, 401, {"WWW-Authenticate": f"Bearer {where}"})
        _, _, name, *rest = urlsplit(asked.path).path.rstrip("/").split("/")
        if rest == ["create"]:
            return self._create(name, asked.body)
        versions = self.keys.get(name)
        if versions is None:
            return refusal(404, "KeyNotFound")
        if rest == ["versions"]:
            return Said({"value": [{"kid": self._kid(name, each)} for each in versions]})
        version = rest[0] if rest else [*versions][-1]
        if rest[1:] == ["sign"]:
            return self._sign(name, version, asked.body)
        return self._shown(name, version)

    def rotate(self, name: str, algorithm: KeyAlgorithm) -> None:
        """Another version of the key, as a rotation or a second replica makes it."""
        key = keys.generate(algorithm)
        self.keys.setdefault(name, {})[f"{next(self._versions):032x}"] = key

    def _create(self, name: str, body: Json) -> Said:
        assert body["key_ops"] == ["sign", "verify"]
        self.rotate(name, KINDS[(body["kty"], body.get("crv") or body["key_size"])])
        return self._shown(name, [*self.keys[name]][-1])

    def _kid(self, name: str, version: str) -> str:
        return f"{self.url}/keys/{name}/{version}"

    def _shown(self, name: str, version: str) -> Said:
        public = self.keys[name][version].public_key()
        jwk: Json = {"kid": self._kid(name, version), "key_ops": ["sign", "verify"]}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            jwk |= {"kty": "RSA", "n": _text(numbers.n), "e": _text(numbers.e)}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            point, size = public.public_numbers(), public.key_size // 8
            curve = f"P-{public.key_size}"
            jwk |= {"kty": "EC", "crv": curve, "x": _text(point.x, size), "y": _text(point.y, size)}
        return Said({"key": jwk, "attributes": {"enabled": True}})

    def _sign(self, name: str, version: str, body: Json) -> Said:
        key, digest = self.keys[name][version], _octets(body["value"])
        family = "RS" if isinstance(key, rsa.RSAPrivateKey) else "ES"
        if body["alg"] != f"{family}{len(digest) * 8}":
            return refusal(400, "BadParameter")
        signed = signature(key, digest)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = key.key_size // 8
            signed = b"".join(each.to_bytes(size, "big") for each in decode_dss_signature(signed))
        value = base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
        return Said({"kid": self._kid(name, version), "value": value})


def _text(number: int, size: int = 0) -> str:
    octets = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def azure(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Azure]:
    folder = tmp_path_factory.mktemp("azure")
    vault, identity = Azure(_tls(folder)), Identity()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{identity.url}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "ours")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    yield vault
    vault.close()
    identity.close()


def _tls(folder: Path) -> ssl.SSLContext:
    """For 127.0.0.1, by a CA that stands in `ca.pem`."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(key.public_key(), "127.0.0.1")
    (folder / "ca.pem").write_text(authority.pem)
    pair = folder / "vault.pem"
    pair.write_bytes(certificate.public_bytes(Encoding.PEM) + key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair)
    return context
