"""A certificate under examination, with what its rules need to know about its issuer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl.domain.errors import Invalid
from certctl.pki import der
from certctl.pki.keys import PublicKey, signature_algorithm_der
from certctl.pki.name_constraints import NameConstraints, of_certificate
from certctl.pki.parts import Parts, certificate_parts, tbs_parts

ExtensionType = TypeVar("ExtensionType", bound=x509.ExtensionType)
NO_SIGNATURE = bytes(64)
MAX_SERIAL = (1 << 159) - 1


@dataclass(frozen=True)
class Above:
    """The issuer's certificate; read once for all that it issues."""

    certificate: x509.Certificate
    subject: bytes

    @cached_property
    def key(self) -> object:
        return self.certificate.public_key()

    @cached_property
    def name_constraints(self) -> NameConstraints:
        return of_certificate(self.certificate)

    def value(self, kind: type[ExtensionType]) -> ExtensionType | None:
        """The value of one extension, or None."""
        return self._values.get(kind)

    @cached_property
    def _values(self) -> dict[type, Any]:
        return {type(each.value): each.value for each in self.certificate.extensions}


@lru_cache(maxsize=256)
def above(issuer_der: bytes) -> Above:
    """Raises what the parsers do for a bad certificate."""
    subject = certificate_parts(issuer_der).subject
    return Above(x509.load_der_x509_certificate(issuer_der), subject)


@dataclass(frozen=True)
class Case:
    """`certificate` carries no real signature. `issuer` is None for a self-signed one."""

    certificate: x509.Certificate
    parts: Parts
    issuer: Above | None
    issuer_key: PublicKey

    @property
    def issuer_subject(self) -> bytes:
        return self.issuer.subject if self.issuer else self.parts.subject

    @cached_property
    def key(self) -> object:
        """The public key that is certified."""
        return self.certificate.public_key()

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
        issuer=None if issuer_der is None else above(issuer_der),
        issuer_key=issuer_key,
    )
