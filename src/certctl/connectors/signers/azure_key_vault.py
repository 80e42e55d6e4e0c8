"""CA keys in Azure Key Vault: made there under a name, never readable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certctl.connectors.key_home import Run
from certctl.connectors.signers.asked import HomeSigner, PerThread, demand, digest, dss
from certctl.connectors.signers.lane import Lanes
from certctl.domain.errors import Refused, Unavailable
from certctl.pki.keys import KeyAlgorithm, PublicKey, spki

CURVES: Final = {KeyAlgorithm.ECDSA_P256: "P-256", KeyAlgorithm.ECDSA_P384: "P-384"}
RSA_SIZES: Final = {
    KeyAlgorithm.RSA_2048: 2048,
    KeyAlgorithm.RSA_3072: 3072,
    KeyAlgorithm.RSA_4096: 4096,
}
UNFIT: Final = ("KeyDisabled", "KeyExpired", "KeyNotYetValid")


@dataclass(frozen=True)
class Clients:
    """Those of one thread: of the vault, and of each key that it has signed with."""

    vault: Any
    keys: dict[bytes, Any] = field(default_factory=dict)


class AzureKeyVault:
    """One vault. Credentials are found as Azure's library finds them."""

    def __init__(self, url: str, *, protection: str, timeout: timedelta) -> None:
        """Raises Unsafe when the extra is not installed."""
        for module in ("azure.identity", "azure.keyvault.keys"):
            demand(module, extra="azure", setting="CERTCTL_AZURE_KEY_VAULT_URL")
        self._url, self._in_hardware = url, protection == "HSM"
        self._seconds = timeout.total_seconds()
        self._lanes = Lanes(f"the Azure Key Vault {url}", timeout)
        self._clients = PerThread(self._opened)

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        return (*CURVES, *RSA_SIZES)

    @property
    def run(self) -> Run:
        return self._lanes

    @property
    def kept(self) -> timedelta:
        return timedelta(minutes=1)

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        """As `KeyHome.make`. The reference is the name of the key. Of two made at once each is a
        version, and whichever counts is found again by its public key."""
        from azure.core.exceptions import ResourceNotFoundError

        with self._in_words("keys/get", reference):
            try:
                return _public_key(self._clients().vault.get_key(reference).key)
            except ResourceNotFoundError:
                pass  # It is made below.
        common = {
            "hardware_protected": self._in_hardware,
            "key_operations": ["sign", "verify"],
            "tags": {"certctl": "ca"},
        }
        with self._in_words("keys/create", reference):
            vault = self._clients().vault
            if algorithm in RSA_SIZES:
                made = vault.create_rsa_key(reference, size=RSA_SIZES[algorithm], **common)
            else:
                made = vault.create_ec_key(reference, curve=CURVES[algorithm], **common)
        return _public_key(made.key)

    def signer(self, reference: str, public_key: PublicKey) -> HomeSigner:
        return HomeSigner(self, reference, public_key)

    def signature(self, reference: str, public_key: PublicKey, data: bytes) -> bytes:
        """The signature over `data`, in the form that certificates hold."""
        hashed, clients = digest(public_key, data), self._clients_in_words()
        is_rsa = isinstance(public_key, rsa.RSAPublicKey)
        algorithm = f"{'RS' if is_rsa else 'ES'}{len(hashed) * 8}"
        wanted = spki(public_key)
        if wanted not in clients.keys:
            version = self._version(clients.vault, reference, public_key)
            clients.keys[wanted] = clients.vault.get_cryptography_client(
                reference, key_version=version
            )
        with self._in_words("keys/sign", reference):
            signed = bytes(clients.keys[wanted].sign(algorithm, hashed).signature)
        return signed if is_rsa else dss(signed)

    def _clients_in_words(self) -> Clients:
        with self._in_words("keys/sign", ""):
            return self._clients()

    def _version(self, vault: Any, reference: str, public_key: PublicKey) -> str:
        """Of exactly this key: a rotation, or two replicas at once, makes others of its name."""
        with self._in_words("keys/get", reference):
            newest = vault.get_key(reference)
            if _public_key(newest.key) == public_key:
                return str(newest.properties.version)
        with self._in_words("keys/list", reference):
            for each in vault.list_properties_of_key_versions(reference):
                if _public_key(vault.get_key(reference, each.version).key) == public_key:
                    return str(each.version)
        raise Unavailable(f"no version of the key {reference} in {self._url} is that of the CA")

    def _opened(self) -> Clients:
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient

        attempt = self._seconds / 4
        return Clients(
            KeyClient(
                self._url,
                DefaultAzureCredential(),
                connection_timeout=attempt,
                read_timeout=attempt,
                retry_total=1,
                # A vault that is too busy names a time; its thread does not wait for that.
                retry_status=0,
            )
        )

    @contextmanager
    def _in_words(self, permission: str, reference: str) -> Iterator[None]:
        """Azure's own text stays out: it may tell more than a job's error should."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        try:
            yield
        except ClientAuthenticationError as error:
            self._clients.forget()  # The environment may name others the next time.
            why = type(error).__name__
            raise Unavailable(f"{self._url} takes no credentials of certctl: {why}") from error
        except HttpResponseError as error:
            raise self._told(error, permission, reference) from error
        # ValueError: who answers asks for a token that is not a vault's.
        except (AzureError, ValueError) as error:
            why = type(error).__name__
            raise Unavailable(f"the vault {self._url} cannot be used: {why}") from error

    def _told(self, error: Any, permission: str, reference: str) -> Unavailable | Refused:
        inner, what = _inner_code(error), f"the key {reference} in {self._url}"
        match error.status_code:
            case 403 if inner in UNFIT:
                return Unavailable(f"{what} is disabled or out of its dates: {inner}")
            case 403:
                return Unavailable(f"{self._url} forbids {permission} on {reference}: {inner}")
            case 404:
                return Unavailable(f"{what} does not exist")
            case 409:
                return Unavailable(f"{what} was deleted: recover it, or purge it")
            case 400:
                return Refused(f"{self._url} refuses {permission} on {reference}: {inner}")
        why = f"{error.status_code} {inner}"
        return Unavailable(f"{self._url} did not do {permission} on {reference}: {why}")


def _inner_code(error: Any) -> str:
    """Such as `ForbiddenByRbac`."""
    told = getattr(error, "error", None)
    inner = getattr(told, "innererror", None) or {}
    return str(inner.get("code") or getattr(told, "code", None) or "no reason given")


def _public_key(jwk: Any) -> PublicKey:
    if jwk.n is not None:
        numbers = (int.from_bytes(jwk.e, "big"), int.from_bytes(jwk.n, "big"))
        return rsa.RSAPublicNumbers(*numbers).public_key()
    curve = ec.SECP256R1() if jwk.crv == "P-256" else ec.SECP384R1()
    point = (int.from_bytes(jwk.x, "big"), int.from_bytes(jwk.y, "big"))
    return ec.EllipticCurvePublicNumbers(*point, curve).public_key()
