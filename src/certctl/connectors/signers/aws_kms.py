"""CA keys in AWS KMS: made there under an alias, never readable."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from certctl.connectors.key_home import Run
from certctl.connectors.signers.asked import HomeSigner, PerThread, demand, digest, tries
from certctl.connectors.signers.lane import Lanes
from certctl.domain.errors import Refused, Unavailable
from certctl.pki.keys import KeyAlgorithm, PublicKey, key_facts, load_spki

log = logging.getLogger("certctl.keys")
# Without Ed25519: KMS signs whole messages with it, of 4096 bytes at most, and CRLs are longer.
SPECS: Final = {
    KeyAlgorithm.ECDSA_P256: "ECC_NIST_P256",
    KeyAlgorithm.ECDSA_P384: "ECC_NIST_P384",
    KeyAlgorithm.RSA_2048: "RSA_2048",
    KeyAlgorithm.RSA_3072: "RSA_3072",
    KeyAlgorithm.RSA_4096: "RSA_4096",
    KeyAlgorithm.ML_DSA_44: "ML_DSA_44",
    KeyAlgorithm.ML_DSA_65: "ML_DSA_65",
    KeyAlgorithm.ML_DSA_87: "ML_DSA_87",
}
STATES: Final = {
    "DisabledException": "is disabled: enable it",
    "KMSInvalidStateException": "cannot be used in its present state, perhaps it is to be deleted",
    "KeyUnavailableException": "is not available now",
    "NotFoundException": "does not exist in this region and account",
}
FORBIDDEN: Final = ("AccessDeniedException", "AccessDenied")
FINAL: Final = ("UnsupportedOperationException", "InvalidKeyUsageException", "ValidationException")


class AwsKms:
    """One region of KMS. Credentials are found as boto3 finds them."""

    def __init__(
        self, region: str, *, endpoint: str, alias_prefix: str, timeout: timedelta
    ) -> None:
        """Raises Unsafe when the extra is not installed."""
        demand("boto3", extra="aws", setting="CERTCTL_AWS_KMS_REGION")
        self._region, self._endpoint, self._prefix = region, endpoint, alias_prefix
        self._seconds = timeout.total_seconds()
        self._lanes = Lanes(f"AWS KMS in {region}", timeout)
        self._client = PerThread(self._opened)

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        return tuple(SPECS)

    @property
    def run(self) -> Run:
        return self._lanes

    @property
    def kept(self) -> timedelta:
        return timedelta(minutes=1)

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        """As `KeyHome.make`. The alias ends in the reference."""
        alias = self._alias(reference)
        found = self._public_key(alias)
        if found is not None:
            return found
        key_id = self._created(alias, algorithm)
        if not self._named(alias, key_id):
            log.warning("AWS KMS: %s was made elsewhere; delete the unused key %s", alias, key_id)
        # What was just made is not at once seen everywhere in KMS.
        for _ in tries(self._seconds / 2):
            found = self._public_key(alias)
            if found is not None:
                return found
        raise Unavailable(f"AWS KMS does not show the new key {alias} yet: try again")

    def signer(self, reference: str, public_key: PublicKey) -> HomeSigner:
        return HomeSigner(self, reference, public_key)

    def signature(self, reference: str, public_key: PublicKey, data: bytes) -> bytes:
        """The signature of the alias's key over `data`, in the form that certificates hold."""
        facts, alias = key_facts(public_key), self._alias(reference)
        kind, algorithm = "DIGEST", f"ECDSA_SHA_{facts.size}"
        if facts.algorithm == "RSA":
            algorithm = "RSASSA_PKCS1_V1_5_SHA_256"
        elif facts.algorithm == "ML-DSA":
            kind, algorithm = "EXTERNAL_MU", "ML_DSA_SHAKE_256"
        with self._in_words("kms:Sign", alias):
            answer = self._client().sign(
                KeyId=alias,
                Message=digest(public_key, data),
                MessageType=kind,
                SigningAlgorithm=algorithm,
            )
        return bytes(answer["Signature"])

    def _alias(self, reference: str) -> str:
        return f"alias/{self._prefix}{reference}"

    def _public_key(self, alias: str) -> PublicKey | None:
        """None when there is no such alias."""
        from botocore.exceptions import ClientError

        with self._in_words("kms:GetPublicKey", alias):
            try:
                answer = self._client().get_public_key(KeyId=alias)
            except ClientError as error:
                if _code(error) != "NotFoundException":
                    raise
                return None
        return load_spki(bytes(answer["PublicKey"]))

    def _created(self, alias: str, algorithm: KeyAlgorithm) -> str:
        """The id of a new key."""
        with self._in_words("kms:CreateKey and kms:TagResource", alias):
            answer = self._client().create_key(
                KeySpec=SPECS[algorithm],
                KeyUsage="SIGN_VERIFY",
                Description=f"certctl CA key {alias}",
                Tags=[{"TagKey": "certctl", "TagValue": alias}],
            )
        return str(answer["KeyMetadata"]["KeyId"])

    def _named(self, alias: str, key_id: str) -> bool:
        """Whether the key has the alias now; it has not when another replica was first."""
        from botocore.exceptions import ClientError

        with self._in_words("kms:CreateAlias", alias):
            try:
                self._client().create_alias(AliasName=alias, TargetKeyId=key_id)
            except ClientError as error:
                if _code(error) != "AlreadyExistsException":
                    raise
                return False
        return True

    def _opened(self) -> Any:
        import boto3
        from botocore.config import Config

        # Two attempts of connecting and reading fit into the time that a caller waits.
        attempt = self._seconds / 4
        return boto3.Session().client(
            "kms",
            region_name=self._region,
            endpoint_url=self._endpoint or None,
            config=Config(
                connect_timeout=attempt,
                read_timeout=attempt,
                retries={"mode": "standard", "total_max_attempts": 2},
            ),
        )

    @contextmanager
    def _in_words(self, permission: str, alias: str) -> Iterator[None]:
        """AWS's own text stays out: it may tell more than a job's error should."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise _told(error, permission, alias) from error
        except BotoCoreError as error:
            self._client.forget()  # Credentials are looked for once for each client.
            why = type(error).__name__
            raise Unavailable(f"AWS KMS in {self._region} cannot be used: {why}") from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _told(error: Any, permission: str, alias: str) -> Unavailable | Refused:
    code = _code(error)
    if code in STATES:
        return Unavailable(f"the key {alias} in AWS KMS {STATES[code]}")
    if code in FORBIDDEN:
        return Unavailable(
            f"AWS KMS forbids {permission} on {alias}: allow it in IAM or in the key's policy"
        )
    if code in FINAL:
        return Refused(f"AWS KMS refuses {permission} on {alias}: {code}")
    return Unavailable(f"AWS KMS did not do {permission} on {alias}: {code or 'no reason given'}")
