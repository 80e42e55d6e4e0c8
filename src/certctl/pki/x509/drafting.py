"""From a template to the bytes that are to be signed, without the key that will sign them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from certctl.domain.errors import Invalid
from certctl.pki import keys
from certctl.pki.alt_names import general_names
from certctl.pki.ekus import eku_oids
from certctl.pki.parts import NO_REV_AVAIL, certificate_parts, tbs_parts
from certctl.pki.policies import policies_extension
from certctl.pki.unreadable import UNREADABLE
from certctl.pki.x509.reading import found
from certctl.pki.x509.template import Template

MAX_CN = 64
DER_NULL = b"\x05\x00"
Extension = tuple[x509.ExtensionType, bool]


def draft(template: Template, issuer_der: bytes | None, issuer_public_key: keys.PublicKey) -> bytes:
    """The TBSCertificate of `template`; with `issuer_der` None, of a self-signed root.

    The issuer's name and key identifier are taken from its certificate as they stand there.

    Raises:
        Invalid: when the template cannot be put into a certificate.
    """
    subject = x509.Name(_subject(template))
    stand_in = _throw_away(keys.signature_algorithm_der(issuer_public_key))
    try:
        builder = (
            x509.CertificateBuilder()
            .serial_number(template.serial)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(template.public_key)
            .not_valid_before(template.not_before)
            .not_valid_after(template.not_after)
        )
        for value, critical in _extensions(template, issuer_der, issuer_public_key):
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


def _extensions(
    template: Template, issuer_der: bytes | None, issuer_key: keys.PublicKey
) -> Iterator[Extension]:
    """Every extension with its criticality, in a fixed order."""
    is_ca = template.kind == "ca"
    path_length = template.path_length if is_ca else None
    yield x509.BasicConstraints(ca=is_ca, path_length=path_length), True
    yield _key_usage(template), True
    oids = eku_oids(template.ekus)
    if template.kind == "ocsp_responder":
        oids = (ExtendedKeyUsageOID.OCSP_SIGNING,)
        yield x509.OCSPNoCheck(), False
    if oids:
        yield x509.ExtendedKeyUsage(oids), False
    yield x509.SubjectKeyIdentifier(keys.key_identifier(template.public_key)), False
    authority = issuer_key_identifier(issuer_der, issuer_key)
    yield x509.AuthorityKeyIdentifier(authority, None, None), False
    if is_ca and template.name_constraints:
        yield template.name_constraints.extension(), True
    if template.policies:
        yield policies_extension(template.policies, template.cps_uri), False
    yield from _names(template)
    yield from _locations(template)
    if template.must_staple and template.kind == "leaf":
        staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
        yield staple, template.must_staple_critical
    if template.no_revocation and template.kind == "leaf":
        yield x509.UnrecognizedExtension(x509.ObjectIdentifier(NO_REV_AVAIL), DER_NULL), False


def issuer_key_identifier(issuer_der: bytes | None, issuer_key: keys.PublicKey) -> bytes:
    """The issuer's own subject key identifier (RFC 5280 §4.2.1.1), or that of its key."""
    if issuer_der is not None:
        stated = found(x509.load_der_x509_certificate(issuer_der), x509.SubjectKeyIdentifier)
        if stated is not None:
            return stated.digest
    return keys.key_identifier(issuer_key)


def _key_usage(template: Template) -> x509.KeyUsage:
    is_ca = template.kind == "ca"
    is_rsa_leaf = template.kind == "leaf" and isinstance(template.public_key, rsa.RSAPublicKey)
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=is_rsa_leaf,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _names(template: Template) -> Iterator[Extension]:
    if template.names:
        is_subject_empty = not any(_subject(template))
        yield x509.SubjectAlternativeName(general_names(template.names)), is_subject_empty


def _locations(template: Template) -> Iterator[Extension]:
    """Where to ask about the certificate; a responder's own is not to be asked about
    (ocsp-nocheck, RFC 6960 §4.2.2.2.1)."""
    asks = template.kind != "ocsp_responder"
    access = (
        (AuthorityInformationAccessOID.OCSP, template.ocsp_url if asks else None),
        (AuthorityInformationAccessOID.CA_ISSUERS, template.ca_issuers_url),
    )
    described = [x509.AccessDescription(oid, _uri(url)) for oid, url in access if url]
    if described:
        yield x509.AuthorityInformationAccess(described), False
    if template.crl_url and asks:
        point = x509.DistributionPoint([_uri(template.crl_url)], None, None, None)
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
