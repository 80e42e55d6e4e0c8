"""CA keys in Google Cloud KMS: made in a key ring, never readable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from certctl.connectors.key_home import Run
from certctl.connectors.signers.asked import HomeSigner, PerThread, demand, digest, tries
from certctl.connectors.signers.lane import Lanes
from certctl.domain.errors import Refused, Unavailable
from certctl.pki.keys import KeyAlgorithm, PublicKey, key_facts, supported

# Without Ed25519: the service signs whole messages with it, of 64 KiB at most, and CRLs are longer.
ALGORITHMS: Final = {
    KeyAlgorithm.ECDSA_P256: "EC_SIGN_P256_SHA256",
    KeyAlgorithm.ECDSA_P384: "EC_SIGN_P384_SHA384",
    KeyAlgorithm.RSA_2048: "RSA_SIGN_PKCS1_2048_SHA256",
    KeyAlgorithm.RSA_3072: "RSA_SIGN_PKCS1_3072_SHA256",
    KeyAlgorithm.RSA_4096: "RSA_SIGN_PKCS1_4096_SHA256",
    KeyAlgorithm.ML_DSA_44: "PQ_SIGN_ML_DSA_44_EXTERNAL_MU",
    KeyAlgorithm.ML_DSA_65: "PQ_SIGN_ML_DSA_65_EXTERNAL_MU",
    KeyAlgorithm.ML_DSA_87: "PQ_SIGN_ML_DSA_87_EXTERNAL_MU",
}
ML_DSA: Final = {
    ALGORITHMS[KeyAlgorithm.ML_DSA_44]: mldsa.MLDSA44PublicKey.from_public_bytes,
    ALGORITHMS[KeyAlgorithm.ML_DSA_65]: mldsa.MLDSA65PublicKey.from_public_bytes,
    ALGORITHMS[KeyAlgorithm.ML_DSA_87]: mldsa.MLDSA87PublicKey.from_public_bytes,
}
SIGN: Final = "cloudkms.cryptoKeyVersions.useToSign"


class GcpKms:
    """One key ring. Credentials are found as Google's library finds them."""

    def __init__(
        self, key_ring: str, *, protection: str, endpoint: str, timeout: timedelta
    ) -> None:
        """Raises Unsafe when the extra is not installed."""
        demand("google.cloud.kms_v1", extra="gcp", setting="CERTCTL_GCP_KMS_KEY_RING")
        self._ring, self._protection, self._endpoint = key_ring, protection, endpoint
        self._seconds = timeout.total_seconds()
        self._lanes = Lanes("Google Cloud KMS", timeout)
        self._client = PerThread(self._opened)

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        return tuple(ALGORITHMS)

    @property
    def run(self) -> Run:
        return self._lanes

    @property
    def kept(self) -> timedelta:
        return timedelta(minutes=1)

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        """As `KeyHome.make`. The reference is the id of the CryptoKey; its version 1 is used."""
        version = self._version(reference)
        if version is None:
            self._create(reference, algorithm)
        for _ in tries(self._seconds / 2):
            version = self._version(reference)
            if version is not None and version.state.name == "ENABLED":
                return self._public_key(reference, version.algorithm.name)
        state = "not shown yet" if version is None else version.state.name
        words = f"the key {reference} in Google Cloud KMS is {state}: try again when it is ENABLED"
        raise Unavailable(words)

    def signer(self, reference: str, public_key: PublicKey) -> HomeSigner:
        return HomeSigner(self, reference, public_key)

    def signature(self, reference: str, public_key: PublicKey, data: bytes) -> bytes:
        """The signature over `data`, in the form that certificates hold."""
        facts, hashed = key_facts(public_key), digest(public_key, data)
        kind = "external_mu" if facts.algorithm == "ML-DSA" else f"sha{len(hashed) * 8}"
        name = self._name(reference)
        request = {"name": name, "digest": {kind: hashed}, "digest_crc32c": crc32c(hashed)}
        with self._in_words(SIGN, reference):
            answer = self._client().asymmetric_sign(request=request, **self._patience())
        signed = bytes(answer.signature)
        is_whole = answer.verified_digest_crc32c and answer.signature_crc32c == crc32c(signed)
        if answer.name != name or not is_whole:
            raise Unavailable("an answer of Google Cloud KMS was damaged on its way")
        return signed

    def _name(self, reference: str) -> str:
        return f"{self._ring}/cryptoKeys/{reference}/cryptoKeyVersions/1"

    def _version(self, reference: str) -> Any:
        """None when there is no such key."""
        from google.api_core.exceptions import NotFound

        with self._in_words("cloudkms.cryptoKeyVersions.get", reference):
            try:
                return self._client().get_crypto_key_version(
                    name=self._name(reference), **self._patience()
                )
            except NotFound:
                return None

    def _create(self, reference: str, algorithm: KeyAlgorithm) -> None:
        """Make it; when another replica has, that one counts."""
        from google.api_core.exceptions import Conflict

        key = {
            "purpose": "ASYMMETRIC_SIGN",
            "version_template": {
                "algorithm": ALGORITHMS[algorithm],
                "protection_level": self._protection,
            },
            "labels": {"certctl": "ca"},
        }
        with self._in_words("cloudkms.cryptoKeys.create", reference):
            try:
                self._client().create_crypto_key(
                    parent=self._ring,
                    crypto_key_id=reference,
                    crypto_key=key,
                    **self._patience(),
                )
            except Conflict:
                return

    def _public_key(self, reference: str, algorithm: str) -> PublicKey:
        from_raw = ML_DSA.get(algorithm)
        request = {
            "name": self._name(reference),
            "public_key_format": "NIST_PQC" if from_raw else "PEM",
        }
        with self._in_words("cloudkms.cryptoKeyVersions.viewPublicKey", reference):
            answer = self._client().get_public_key(request=request, **self._patience())
        data = bytes(answer.public_key.data)
        if answer.public_key.crc32c_checksum != crc32c(data):
            raise Unavailable("an answer of Google Cloud KMS was damaged on its way")
        return supported(from_raw(data) if from_raw else load_pem_public_key(data))

    def _opened(self) -> Any:
        from google.cloud.kms_v1 import KeyManagementServiceClient

        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        return KeyManagementServiceClient(transport="rest", client_options=options)

    def _patience(self) -> Mapping[str, Any]:
        """For each call: an attempt, and others when that fails at once, within the time that a
        caller waits."""
        from google.api_core.exceptions import ServiceUnavailable
        from google.api_core.retry import Retry, if_exception_type
        from requests import ConnectionError

        again = if_exception_type(ServiceUnavailable, ConnectionError)
        attempt = self._seconds / 4
        return {
            "timeout": attempt,
            "retry": Retry(predicate=again, initial=0.1, maximum=1.0, timeout=attempt),
        }

    @contextmanager
    def _in_words(self, permission: str, reference: str) -> Iterator[None]:
        """Google's own text stays out: it may tell more than a job's error should."""
        from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            yield
        except GoogleAPICallError as error:
            raise _told(error, permission, reference) from error
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            why = type(error).__name__
            raise Unavailable(f"Google Cloud KMS cannot be used: {why}") from error


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720 §12.1) by which the service knows that bytes are whole."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def _told(error: Any, permission: str, reference: str) -> Unavailable | Refused:
    status = _status(error)
    what = f"the key {reference} in Google Cloud KMS"
    if error.code == 403:
        return Unavailable(f"Google Cloud KMS forbids {permission} on {reference}: allow it in IAM")
    if error.code == 404:
        return Unavailable(f"{what}, or its key ring, does not exist")
    if status == "FAILED_PRECONDITION":
        return Unavailable(f"{what} cannot be used in its present state: is its version 1 enabled?")
    if error.code == 400:
        return Refused(f"Google Cloud KMS refuses {permission} on {reference}: {status}")
    return Unavailable(f"Google Cloud KMS did not do {permission} on {reference}: {status}")


def _status(error: Any) -> str:
    """Such as `FAILED_PRECONDITION`, which shares its number 400 with others."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return str(error.code)
