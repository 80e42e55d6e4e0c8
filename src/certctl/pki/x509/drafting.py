"""From a template to the bytes that are to be signed, without the key that will sign them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from certctl.domain.errors import Invalid
from certctl.pki import keys
from certctl.pki.alt_names import general_names
from certctl.pki.ekus import eku_oids
from certctl.pki.name_constraints import NONE, NameConstraints
from certctl.pki.parts import NO_REV_AVAIL, certificate_parts, tbs_parts
from certctl.pki.policies import policies_extension
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.x509.reading import found
from certctl.pki.x509.template import Kind, Template

MAX_CN = 64
DER_NULL = b"\x05\x00"
Extension = tuple[x509.ExtensionType, bool]


@dataclass(frozen=True)
class Mould:
    """What many certificates of one kind have in common."""

    kind: Kind
    has_rsa_key: bool
    ekus: tuple[str, ...]
    path_length: int | None
    name_constraints: NameConstraints
    authority: bytes
    ocsp_url: str | None
    ca_issuers_url: str | None
    crl_url: str | None
    must_staple: bool
    must_staple_critical: bool
    no_revocation: bool
    policies: tuple[str, ...]
    cps_uri: str


def draft(template: Template, issuer_der: bytes | None, issuer_public_key: keys.PublicKey) -> bytes:
    """The TBSCertificate of `template`; with `issuer_der` None, of a self-signed root.

    The issuer's name and key identifier are taken from its certificate as they stand there.

    Raises:
        Invalid: when the template cannot be put into a certificate.
    """
    subject = x509.Name(_subject(template))
    stand_in = _throw_away(keys.signature_algorithm_der(issuer_public_key))
    try:
        authority = issuer_key_identifier(issuer_der, issuer_public_key)
        builder = (
            _begun(_mould(template, authority))
            .serial_number(template.serial)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(template.public_key)
            .not_valid_before(template.not_before)
            .not_valid_after(template.not_after)
        )
        for value, critical in _own_extensions(template, subject):
            builder = builder.add_extension(value, critical=critical)
        tbs = builder.sign(stand_in, _hash(stand_in)).tbs_certificate_bytes
    except UNREADABLE as error:
        raise Invalid(f"no certificate can be made of this: {error}") from error
    if issuer_der is None:
        return tbs
    return replace(tbs_parts(tbs), issuer=certificate_parts(issuer_der).subject).tbs()


def _subject(template: Template) -> Iterator[x509.NameAttribute[str]]:
    if template.organization:
        yield x509.NameAttribute(NameOID.ORGANIZATION_NAME, template.organization)
    if template.subject_cn and len(template.subject_cn) <= MAX_CN:
        yield x509.NameAttribute(NameOID.COMMON_NAME, template.subject_cn)


def _mould(template: Template, authority: bytes) -> Mould:
    is_ca, is_leaf = template.kind == "ca", template.kind == "leaf"
    # A responder's own certificate is not to be asked about (ocsp-nocheck, RFC 6960 §4.2.2.2.1).
    asks = template.kind != "ocsp_responder"
    return Mould(
        kind=template.kind,
        has_rsa_key=isinstance(template.public_key, rsa.RSAPublicKey),
        ekus=template.ekus if asks else ("OCSPSigning",),
        path_length=template.path_length if is_ca else None,
        name_constraints=template.name_constraints if is_ca else NONE,
        authority=authority,
        ocsp_url=template.ocsp_url if asks else None,
        ca_issuers_url=template.ca_issuers_url,
        crl_url=template.crl_url if asks else None,
        must_staple=template.must_staple and is_leaf,
        must_staple_critical=template.must_staple_critical,
        no_revocation=template.no_revocation and is_leaf,
        policies=template.policies,
        cps_uri=template.cps_uri,
    )


@lru_cache(maxsize=1024)
def _begun(mould: Mould) -> x509.CertificateBuilder:
    """A builder with every extension that certificates of this mould have in common: builders do
    not change, and making these anew each time is a third of the work."""
    builder = x509.CertificateBuilder()
    for value, critical in _common_extensions(mould):
        builder = builder.add_extension(value, critical=critical)
    return builder


def _common_extensions(mould: Mould) -> Iterator[Extension]:
    """Each with its criticality, in a fixed order."""
    is_ca = mould.kind == "ca"
    yield x509.BasicConstraints(ca=is_ca, path_length=mould.path_length), True
    yield _key_usage(mould), True
    if mould.kind == "ocsp_responder":
        yield x509.OCSPNoCheck(), False
    if mould.ekus:
        # Time-stamping stands alone, and then critical (RFC 3161 §2.3).
        yield x509.ExtendedKeyUsage(eku_oids(mould.ekus)), mould.ekus == ("timeStamping",)
    yield x509.AuthorityKeyIdentifier(mould.authority, None, None), False
    if mould.name_constraints:
        yield mould.name_constraints.extension(), True
    if mould.policies:
        yield policies_extension(mould.policies, mould.cps_uri), False
    yield from _locations(mould)
    if mould.must_staple:
        staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
        yield staple, mould.must_staple_critical
    if mould.no_revocation:
        yield x509.UnrecognizedExtension(x509.ObjectIdentifier(NO_REV_AVAIL), DER_NULL), False


def _own_extensions(template: Template, subject: x509.Name) -> Iterator[Extension]:
    yield x509.SubjectKeyIdentifier(keys.key_identifier(template.public_key)), False
    if template.names:
        is_subject_empty = not subject.rdns
        yield x509.SubjectAlternativeName(general_names(template.names)), is_subject_empty


def issuer_key_identifier(issuer_der: bytes | None, issuer_key: keys.PublicKey) -> bytes:
    """The issuer's own subject key identifier (RFC 5280 §4.2.1.1), or that of its key."""
    stated = None if issuer_der is None else _stated_key_identifier(issuer_der)
    return stated or keys.key_identifier(issuer_key)


@lru_cache(maxsize=256)
def _stated_key_identifier(issuer_der: bytes) -> bytes | None:
    stated = found(x509.load_der_x509_certificate(issuer_der), x509.SubjectKeyIdentifier)
    return stated.digest if stated else None


def _key_usage(mould: Mould) -> x509.KeyUsage:
    is_ca = mould.kind == "ca"
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=mould.kind == "leaf" and mould.has_rsa_key,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _locations(mould: Mould) -> Iterator[Extension]:
    """Where to ask about the certificate."""
    access = (
        (AuthorityInformationAccessOID.OCSP, mould.ocsp_url),
        (AuthorityInformationAccessOID.CA_ISSUERS, mould.ca_issuers_url),
    )
    described = [x509.AccessDescription(oid, _uri(url)) for oid, url in access if url]
    if described:
        yield x509.AuthorityInformationAccess(described), False
    if mould.crl_url:
        point = x509.DistributionPoint([_uri(mould.crl_url)], None, None, None)
        yield x509.CRLDistributionPoints([point]), False


def _uri(url: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(url)


@cache
def _throw_away(algorithm_der: bytes) -> keys.PrivateKey:
    """A key whose signatures are discarded: the builder only gives bytes away with one."""
    candidates = (
        keys.KeyAlgorithm.ECDSA_P256,
        keys.KeyAlgorithm.ECDSA_P384,
        keys.KeyAlgorithm.ED25519,
        keys.KeyAlgorithm.ML_DSA_44,
        keys.KeyAlgorithm.ML_DSA_65,
        keys.KeyAlgorithm.ML_DSA_87,
        keys.KeyAlgorithm.RSA_2048,
    )
    made = map(keys.generate, candidates)
    return next(k for k in made if keys.signature_algorithm_der(k.public_key()) == algorithm_der)


def _hash(key: keys.PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, rsa.RSAPrivateKey):
        return hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return keys.ecdsa_hash(key.curve)
    return None
