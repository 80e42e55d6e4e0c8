"""Extended key usages by the names that profiles and the REST interface use."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.x509 import ExtendedKeyUsage, ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl.domain.errors import Invalid

OIDS = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
}
NAMES = {oid: name for name, oid in OIDS.items()}


def eku_oids(names: Iterable[str]) -> tuple[ObjectIdentifier, ...]:
    """The identifiers of `names`, duplicates dropped; Invalid, naming `ekus`, for a strange one."""
    wanted = tuple(dict.fromkeys(names))
    strange = [name for name in wanted if name not in OIDS]
    if strange:
        raise Invalid(f"unknown extended key usage: {', '.join(strange)}", field="ekus")
    return tuple(OIDS[name] for name in wanted)


def eku_names(extension: ExtendedKeyUsage) -> tuple[str, ...]:
    """The established names in the order given; other usages as dotted identifiers."""
    return tuple(NAMES.get(oid, oid.dotted_string) for oid in extension)
