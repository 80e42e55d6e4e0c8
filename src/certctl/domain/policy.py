"""Rules over the inventory: their types, what each needs to know, and their severities."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from certctl.domain.errors import Invalid
from certctl.domain.names import dns_name, parse_name


class RuleType(StrEnum):
    ALLOWED_ISSUERS = "AllowedIssuers"
    ALLOWED_DOMAINS = "AllowedDomains"
    REQUIRED_METADATA = "RequiredMetadata"
    ALLOWED_ENVIRONMENTS = "AllowedEnvironments"
    RENEWAL_LEAD_TIME = "RenewalLeadTime"
    CERTIFICATE_LIFETIME = "CertificateLifetime"


class Severity(StrEnum):
    WARNING = "Warning"
    ERROR = "Error"
    CRITICAL = "Critical"


class FoundOn(StrEnum):
    """What broke a rule: the certificate as it stands, or what was about to be issued."""

    INVENTORY = "Inventory"
    ISSUANCE = "Issuance"


LISTS: Final = {
    RuleType.ALLOWED_ISSUERS: "allowed_issuer_ids",
    RuleType.ALLOWED_DOMAINS: "allowed_domains",
    RuleType.REQUIRED_METADATA: "required_keys",
    RuleType.ALLOWED_ENVIRONMENTS: "allowed",
}
DAYS: Final = {
    RuleType.RENEWAL_LEAD_TIME: "lead_time_days",
    RuleType.CERTIFICATE_LIFETIME: "max_days",
}
MOST: Final = 500  # entries of a list
# What depends on the version, and so is mended by a renewal, keeps nobody from one. Of these the
# lifetime alone is known before the version is, and may refuse it.
OF_THE_VERSION: Final = (RuleType.RENEWAL_LEAD_TIME, RuleType.CERTIFICATE_LIFETIME)


def check_config(kind: RuleType, config: Mapping[str, Any]) -> None:
    """A rule has the one setting that its type needs.

    Raises:
        Invalid: naming `config` and the setting, and an entry that is no name.
    """
    name = LISTS.get(kind) or DAYS[kind]
    for other in config.keys() - {name}:
        raise Invalid(f"config.{other}: {kind} takes {name} only", field=f"config.{other}")
    value = config.get(name)
    if kind in DAYS:
        fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 3650
        words = "a number of days, 1 to 3650"
    else:
        fits = isinstance(value, list) and 1 <= len(value) <= MOST and all(map(_is_text, value))
        words = f"a list of 1 to {MOST} texts"
    if not fits:
        raise Invalid(f"config.{name}: {words}", field=f"config.{name}")
    if kind is RuleType.ALLOWED_DOMAINS:
        for text in config[name]:
            _check_domain(text, f"config.{name}")


def check_blocking(kind: RuleType) -> None:
    """Whether a rule of this type can refuse anything.

    Raises:
        Invalid: when a renewal is what mends a violation, so that nothing is there to refuse.
    """
    if kind is RuleType.RENEWAL_LEAD_TIME:
        raise Invalid(
            f"blocking: a {kind} rule has nothing to refuse, for a renewal is what mends it",
            field="blocking",
        )


def _check_domain(text: str, field: str) -> None:
    """A name as certificates have it (RFC 5280 §4.2.1.6), or `*.` and a DNS name, of one label at
    least; written so that it can be compared with theirs, but for capitals."""
    if text.startswith("*."):
        if "*" in text[2:]:
            raise Invalid(f"{field}: {text!r}: `*.` is the first label only", field=field)
        canonical = f"*.{dns_name(text[2:], field=field)}"
    else:
        canonical = parse_name(text, field=field).value
    if canonical not in {text, text.lower()}:
        raise Invalid(f"{field}: write {canonical!r} instead of {text!r}", field=field)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255 and "\0" not in value
