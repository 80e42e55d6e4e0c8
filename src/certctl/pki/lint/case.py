"""A certificate under examination, with what its rules need to know about its issuer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl.domain.errors import Invalid
from certctl.pki import der
from certctl.pki.keys import PublicKey, signature_algorithm_der
from certctl.pki.parts import Parts, certificate_parts, tbs_parts

ExtensionType = TypeVar("ExtensionType", bound=x509.ExtensionType)
NO_SIGNATURE = bytes(64)
MAX_SERIAL = (1 << 159) - 1


@dataclass(frozen=True)
class Case:
    """`certificate` carries no real signature. `issuer` is None for a self-signed one."""

    certificate: x509.Certificate
    parts: Parts
    issuer: x509.Certificate | None
    issuer_subject: bytes
    issuer_key: PublicKey

    def find(self, kind: type[ExtensionType]) -> x509.Extension[ExtensionType] | None:
        """One extension, or None."""
        return self._extensions.get(kind)

    @cached_property
    def _extensions(self) -> dict[type, x509.Extension[Any]]:
        """By kind: every rule asks for some."""
        return {type(each.value): each for each in self.certificate.extensions}

    def value(self, kind: type[ExtensionType]) -> ExtensionType | None:
        """The value of one extension, or None."""
        extension = self.find(kind)
        return extension.value if extension else None

    @property
    def is_ca(self) -> bool:
        basic = self.value(x509.BasicConstraints)
        return basic is not None and basic.ca

    @property
    def is_responder(self) -> bool:
        usage = self.value(x509.ExtendedKeyUsage)
        return usage is not None and ExtendedKeyUsageOID.OCSP_SIGNING in usage


def find(
    certificate: x509.Certificate, kind: type[ExtensionType]
) -> x509.Extension[ExtensionType] | None:
    """One extension of `certificate`, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def open_case(tbs: bytes, issuer_key: PublicKey, *, issuer_der: bytes | None) -> Case:
    """The case of `tbs`.

    The serial is looked at first (RFC 5280 §4.1.2.2), because parsers stumble over negative ones.

    Raises:
        Invalid: for a serial out of range; else what the parsers raise for a bad certificate.
    """
    parts = tbs_parts(tbs)
    if not 0 < der.number_of(der.single(parts.serial, der.INTEGER)) <= MAX_SERIAL:
        raise Invalid("the serial number is not positive or takes more than 20 octets")
    whole = der.assemble(tbs, signature_algorithm_der(issuer_key), NO_SIGNATURE)
    return Case(
        certificate=x509.load_der_x509_certificate(whole),
        parts=parts,
        issuer=None if issuer_der is None else x509.load_der_x509_certificate(issuer_der),
        issuer_subject=(parts if issuer_der is None else certificate_parts(issuer_der)).subject,
        issuer_key=issuer_key,
    )
