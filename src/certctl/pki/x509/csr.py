"""Certificate requests (PKCS#10, RFC 2986): read with suspicion, compared with what was approved.

A request only brings a key. The names that are issued are the approved ones, never the request's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from certctl.domain.errors import Invalid
from certctl.domain.names import MAX_NAMES, Name, parse_name
from certctl.pki import keys
from certctl.pki.alt_names import checked_name
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.x509.armour import blocks

FIELD = "csr_pem"
MAX_BYTES = 64 * 1024
LABELS = frozenset({"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"})


@dataclass(frozen=True)
class CsrFacts:
    """One request whose signature holds. `names` are its subject alternative names;
    `has_other_names` says that its subject carries more than a common name, none of it copied."""

    public_key: keys.PublicKey
    key: keys.KeyFacts
    common_name: str | None
    names: tuple[Name, ...]
    spki_sha256: str
    has_other_names: bool


def read_csr(pem: str) -> CsrFacts:
    """The one request in `pem`, proved to come from the holder of its key.

    Raises:
        Invalid: naming `csr_pem`, whatever the input: not exactly one request, over 64 KiB, a bad
            signature, a weak key, or a name of a kind or form that is not issued.
    """
    if len(pem) > MAX_BYTES:
        raise _refusal(f"the request is larger than {MAX_BYTES // 1024} KiB")
    try:
        ders = blocks(pem, labels=LABELS)
    except Invalid as error:
        raise _refusal(error.message) from error
    if len(ders) != 1:
        raise _refusal(f"expected exactly one PEM certificate request, found {len(ders)}")
    return read_csr_der(ders[0])


def read_csr_der(der: bytes) -> CsrFacts:
    """As `read_csr`, for a request in DER."""
    if len(der) > MAX_BYTES:
        raise _refusal(f"the request is larger than {MAX_BYTES // 1024} KiB")
    try:
        request = x509.load_der_x509_csr(der)
        key = _proved_key(request)
        return CsrFacts(
            public_key=key,
            key=keys.key_facts(key),
            common_name=_common_name(request.subject),
            names=_names(request.extensions),
            spki_sha256=keys.spki_sha256(key),
            has_other_names=any(a.oid != NameOID.COMMON_NAME for a in request.subject),
        )
    except UNREADABLE as error:
        raise _refusal("the certificate request cannot be read") from error


def check_csr_names(csr: CsrFacts, approved_names: Iterable[Name], common_name: str | None) -> None:
    """Refuse a request that asks for more than was approved; asking for less is fine.

    Raises:
        Invalid: naming `csr_pem` and the names that nobody approved.
    """
    approved = frozenset(approved_names)
    foreign = [str(name) for name in csr.names if name not in approved]
    allowed = {name.value for name in approved} | {common_name}
    asked = csr.common_name
    if asked is not None and asked not in allowed and _canonical(asked) not in allowed:
        foreign.insert(0, asked)
    if foreign:
        listed = ", ".join(dict.fromkeys(foreign))
        raise _refusal(f"the request asks for names that were not approved: {listed}")


def _proved_key(request: x509.CertificateSigningRequest) -> keys.PublicKey:
    public = request.public_key()
    if why := keys.weakness(public):
        raise _refusal(f"the key of the request {why}")
    if not request.is_signature_valid:
        raise _refusal("the request is not signed by the key that it carries")
    return keys.supported(public)


def _common_name(subject: x509.Name) -> str | None:
    values = [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(values) > 1 or not all(isinstance(value, str) for value in values):
        raise _refusal("the subject of the request has more than one common name")
    return str(values[0]) or None if values else None


def _names(extensions: x509.Extensions) -> tuple[Name, ...]:
    try:
        asked = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = tuple(dict.fromkeys(checked_name(general, field=FIELD) for general in asked))
    if len(names) > MAX_NAMES:
        raise _refusal(f"the request has more than {MAX_NAMES} names")
    return names


def _canonical(text: str) -> str:
    try:
        return parse_name(text).value
    except Invalid:
        return text


def _refusal(sentence: str) -> Invalid:
    return Invalid(sentence, field=FIELD)
