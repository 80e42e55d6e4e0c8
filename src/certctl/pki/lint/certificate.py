"""Our own rules for certificates, looked at before every signature (RFC 5280 §4, RFC 6960 §4.2.2).

Each rule answers with the sentence that tells what is wrong, or None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from certctl.pki.keys import key_identifier, signature_algorithm_der, weakness
from certctl.pki.lint.case import Case
from certctl.pki.lint.names import (
    common_name_is_a_name,
    names_are_permitted,
    names_follow_our_rule,
)
from certctl.pki.parts import NO_REV_AVAIL
from certctl.pki.policies import ANY_POLICY

OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING


def _serial_differs_from_issuer(case: Case) -> str | None:
    if case.issuer and case.issuer.certificate.serial_number == case.certificate.serial_number:
        return "the serial number is that of the issuer"
    return None


def _validity_is_in_order(case: Case) -> str | None:
    start, end = case.certificate.not_valid_before_utc, case.certificate.not_valid_after_utc
    if end <= start:
        return "notAfter is not later than notBefore"
    if case.issuer and end > case.issuer.certificate.not_valid_after_utc:
        return "notAfter lies beyond the issuer's"
    return None


def _algorithm_is_the_issuers(case: Case) -> str | None:
    if case.parts.algorithm == signature_algorithm_der(case.issuer_key):
        return None
    return "the signature algorithm is not that of the issuer's key"


def _issuer_is_named_exactly(case: Case) -> str | None:
    if case.parts.issuer == case.issuer_subject:
        return None
    return "the issuer's name is not, byte for byte, the subject of the issuer"


def _issuer_may_issue(case: Case) -> str | None:
    """The issuer's certificate fits its key and permits this certificate (RFC 5280 §6.1.4)."""
    if case.issuer is None:
        if case.key != case.issuer_key or not case.is_ca:
            return "only a CA signs itself, and with its own key"
        return None
    if case.issuer.key != case.issuer_key:
        return "the issuer's certificate is for another key"
    basic = case.issuer.value(x509.BasicConstraints)
    usage = case.issuer.value(x509.KeyUsage)
    if basic is None or not basic.ca or (usage and not usage.key_cert_sign):
        return "the issuer's certificate is not for signing certificates"
    return _path_is_short_enough(case, basic.path_length)


def _path_is_short_enough(case: Case, limit: int | None) -> str | None:
    own = case.value(x509.BasicConstraints)
    if limit is None or own is None or not own.ca:
        return None
    if own.path_length is None or own.path_length >= limit:
        return f"the path length must be below the issuer's {limit}"
    return None


def _key_is_strong(case: Case) -> str | None:
    why = weakness(case.key)
    return f"the subject's key {why}" if why else None


def _key_identifiers_are_full(case: Case) -> str | None:
    subject = case.value(x509.SubjectKeyIdentifier)
    authority = case.value(x509.AuthorityKeyIdentifier)
    stated = case.issuer.value(x509.SubjectKeyIdentifier) if case.issuer else None
    expected = stated.digest if stated else key_identifier(case.issuer_key)
    own = hashlib.sha1(case.parts.key_bits, usedforsecurity=False).digest()
    if subject is None or subject.digest != own:
        return "the subject key identifier is not the whole SHA-1 of the key"
    if authority is None or authority.key_identifier != expected:
        return "the authority key identifier is not the issuer's key identifier"
    return None


def _locations_are_plain_http(case: Case) -> str | None:
    bad = [url for url in _locations(case) if not is_plain_http(url)]
    return f"not a plain http address: {', '.join(bad)}" if bad else None


def _locations(case: Case) -> Iterator[str]:
    for access in case.value(x509.AuthorityInformationAccess) or ():
        yield str(access.access_location.value)
    for point in case.value(x509.CRLDistributionPoints) or ():
        yield from (str(name.value) for name in point.full_name or ())


def is_plain_http(url: str) -> bool:
    """Fetching these over TLS could need the very answer that is being fetched."""
    try:
        parsed = urlsplit(url)
        return parsed.scheme == "http" and bool(parsed.hostname) and parsed.port != 0
    except ValueError:
        return False


def _ca_may_sign(case: Case) -> str | None:
    basic, usage = case.find(x509.BasicConstraints), case.find(x509.KeyUsage)
    if not case.is_ca or basic is None:
        return None
    if not basic.critical or usage is None or not usage.critical:
        return "a CA needs critical basic constraints and critical key usage"
    if not (usage.value.key_cert_sign and usage.value.crl_sign):
        return "a CA needs the key usages keyCertSign and cRLSign"
    if case.parts.subject == EMPTY_NAME:
        return "a CA needs a subject"
    return None


def _leaf_may_not_sign_certificates(case: Case) -> str | None:
    usage = case.find(x509.KeyUsage)
    if case.is_ca:
        return None
    if usage is None or not usage.critical or not usage.value.digital_signature:
        return "key usage is missing, not critical, or lacks digitalSignature"
    if usage.value.key_cert_sign or usage.value.crl_sign:
        return "only a CA has the key usages keyCertSign and cRLSign"
    return None


def _responder_is_only_a_responder(case: Case) -> str | None:
    usage = case.value(x509.ExtendedKeyUsage)
    if not case.is_responder:
        return "ocsp-nocheck without OCSPSigning" if case.find(x509.OCSPNoCheck) else None
    if usage is None or list(usage) != [OCSP_SIGNING] or case.is_ca:
        return "an OCSP responder has the usage OCSPSigning alone"
    if not case.find(x509.OCSPNoCheck):
        return "an OCSP responder needs ocsp-nocheck"
    access = case.value(x509.AuthorityInformationAccess) or ()
    asks = any(a.access_method == AuthorityInformationAccessOID.OCSP for a in access)
    if asks or case.find(x509.CRLDistributionPoints):
        return "an OCSP responder's own status is not to be asked for"
    return None


def _staple_is_the_only_feature(case: Case) -> str | None:
    feature = case.find(x509.TLSFeature)
    if feature is None:
        return None
    if case.is_ca or list(feature.value) != [x509.TLSFeatureType.status_request]:
        return "TLS feature is in a CA's certificate or asks for more than status_request"
    return None


def _policies_are_in_order(case: Case) -> str | None:
    """RFC 5280 §4.2.1.4: each at most once; which CA may assert any is for the CA above."""
    policies = case.find(x509.CertificatePolicies)
    if policies is None:
        return None
    oids = [policy.policy_identifier.dotted_string for policy in policies.value]
    if policies.critical or len(set(oids)) != len(oids):
        return "certificate policies are critical, or one is there twice"
    if ANY_POLICY in oids and not case.is_ca:
        return "only a CA asserts any policy"
    return None


def _no_revocation_means_none(case: Case) -> str | None:
    """RFC 9608 §3: noRevAvail, and nowhere to ask; never in a CA's certificate."""
    held = {each.oid.dotted_string: each for each in case.certificate.extensions}
    silent = held.get(NO_REV_AVAIL)
    if silent is None:
        return None
    if case.is_ca or silent.critical:
        return "noRevAvail is critical, or in a CA's certificate"
    access = case.value(x509.AuthorityInformationAccess) or ()
    asks = any(a.access_method == AuthorityInformationAccessOID.OCSP for a in access)
    if asks or held.keys() & WHERE_TO_ASK:
        return "noRevAvail stands beside an address to ask for revocation"
    return None


WHERE_TO_ASK = {
    x509.CRLDistributionPoints.oid.dotted_string,
    x509.FreshestCRL.oid.dotted_string,
}
EMPTY_NAME = b"\x30\x00"
RULES: tuple[Callable[[Case], str | None], ...] = (
    _serial_differs_from_issuer,
    _validity_is_in_order,
    _algorithm_is_the_issuers,
    _issuer_is_named_exactly,
    _issuer_may_issue,
    _key_is_strong,
    _key_identifiers_are_full,
    _locations_are_plain_http,
    _ca_may_sign,
    _leaf_may_not_sign_certificates,
    _responder_is_only_a_responder,
    _staple_is_the_only_feature,
    _policies_are_in_order,
    _no_revocation_means_none,
    names_follow_our_rule,
    common_name_is_a_name,
    names_are_permitted,
)


def broken_rules(case: Case) -> list[str]:
    """What every broken rule says, in the order of `RULES`."""
    return [why for rule in RULES if (why := rule(case))]
