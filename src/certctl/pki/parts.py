"""The raw pieces of a certificate, byte for byte as they stand in it.

Names and keys are hashed and compared as encoded; decoding and encoding again could change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from certctl.domain.errors import Invalid
from certctl.pki import der

NO_REV_AVAIL = "2.5.29.56"  # RFC 9608 §2
VERSION_TAG = der.CONTEXT | der.CONSTRUCTED


@dataclass(frozen=True)
class Parts:
    """Members of a TBSCertificate of version 3 (RFC 5280 §4.1), each complete with its tag."""

    version: bytes
    serial: bytes
    algorithm: bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    spki: bytes
    rest: tuple[bytes, ...]

    @property
    def key_bits(self) -> bytes:
        """The contents of the key's BIT STRING, which OCSP and key identifiers hash."""
        _, bit_string = der.members(self.spki)
        return der.expect(bit_string, der.BIT_STRING).body[1:]

    def tbs(self) -> bytes:
        """The TBSCertificate again."""
        head = (self.version, self.serial, self.algorithm, self.issuer, self.validity)
        return der.sequence(*head, self.subject, self.spki, *self.rest)


def tbs_parts(tbs: bytes) -> Parts:
    """The pieces of `tbs`; Invalid when it is not a TBSCertificate of version 2 or 3."""
    found = der.members(tbs)
    if len(found) < 7 or found[0].tag != VERSION_TAG:
        raise Invalid("not a version 3 certificate")
    version, serial, algorithm, issuer, validity, subject, spki, *rest = (m.raw for m in found)
    return Parts(
        version=version,
        serial=serial,
        algorithm=algorithm,
        issuer=issuer,
        validity=validity,
        subject=subject,
        spki=spki,
        rest=tuple(rest),
    )


@lru_cache(maxsize=256)
def certificate_parts(certificate_der: bytes) -> Parts:
    """The pieces of a whole certificate; Invalid when it is not one."""
    found = der.members(certificate_der)
    if len(found) != 3:
        raise Invalid("not a certificate")
    return tbs_parts(found[0].raw)


def serial_of(certificate_der: bytes) -> int:
    """The serial number of a certificate of any version, of any sign; Invalid if there is none."""
    signed = der.members(certificate_der)
    inner = der.leading(der.single(signed[0].raw, der.SEQUENCE).body, 2) if signed else []
    numbers = [element for element in inner if element.tag == der.INTEGER]
    if not numbers:
        raise Invalid("not a certificate")
    return der.number_of(numbers[0])
