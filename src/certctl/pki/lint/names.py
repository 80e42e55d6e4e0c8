"""Our rule for subject and subject alternative names (RFC 5280 §4.2.1.6): canonical, no doubles."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from certctl.domain.errors import Invalid
from certctl.domain.names import Name, NameKind
from certctl.pki.alt_names import checked_name
from certctl.pki.lint.case import Case
from certctl.pki.name_constraints import NONE, of_certificate

MAX_CN = 64
FIELD = "subject alternative names"


def names_follow_our_rule(case: Case) -> str | None:
    """DNS names are LDH labels in lower case, `*.` left-most only, A-labels where not ASCII."""
    extension = case.find(x509.SubjectAlternativeName)
    is_end_entity = not case.is_ca and not case.is_responder
    if extension is None:
        return "a leaf needs subject alternative names" if is_end_entity else None
    if extension.critical != (not case.certificate.subject.rdns):
        return f"{FIELD} must be critical exactly when the subject is empty"
    generals = list(extension.value)
    if not generals or len(set(generals)) != len(generals):
        return f"{FIELD} are empty or hold one name twice"
    return next((why for general in generals if (why := _why_not(general))), None)


def names_are_permitted(case: Case) -> str | None:
    """By the issuer's name constraints; a CA may permit no more than the one above it, so that
    looking at one of them is looking at all (RFC 5280 §6.1.4 (g))."""
    extension = case.find(x509.NameConstraints)
    if extension is not None and not (extension.critical and case.is_ca):
        return "name constraints are critical, and only in a CA's certificate"
    above = case.issuer.name_constraints if case.issuer else NONE
    if case.is_ca:
        own = of_certificate(case.certificate)
        return None if own.within(above) else "the CA would permit names that its issuer does not"
    generals = case.value(x509.SubjectAlternativeName) or ()
    try:
        return above.why_not([checked_name(general, field=FIELD) for general in generals])
    except Invalid:
        return None  # the rule above tells what is wrong with such a name


def common_name_is_a_name(case: Case) -> str | None:
    """At most one, within X.520's 64 characters; of a leaf, one of its alternative names."""
    held = case.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    values = [str(attribute.value) for attribute in held]
    if len(values) > 1 or any(not 1 <= len(value) <= MAX_CN for value in values):
        return f"the common name is repeated, empty, or longer than {MAX_CN} characters"
    if not values or case.is_ca or case.is_responder:
        return None
    names = case.value(x509.SubjectAlternativeName) or ()
    if values[0].casefold() in {str(general.value).casefold() for general in names}:
        return None
    return "the common name is not among the subject alternative names"


def _why_not(general: x509.GeneralName) -> str | None:
    try:
        name = checked_name(general, field=FIELD)
    except Invalid as error:
        return error.message
    if name.value != str(general.value):
        return f"{FIELD}: {general.value} is not in canonical form ({name.value})"
    return _bad_a_label(name)


def _bad_a_label(name: Name) -> str | None:
    labels = name.value.split(".") if name.kind is NameKind.DNS else []
    for label in labels:
        if label.startswith("xn--") and not _is_a_label(label):
            return f"{FIELD}: {label} is not an A-label (RFC 5890 §2.3.2.1)"
    return None


def _is_a_label(label: str) -> bool:
    try:
        decoded = label.removeprefix("xn--").encode().decode("punycode")
    except UnicodeError:
        return False
    return not decoded.isascii()
