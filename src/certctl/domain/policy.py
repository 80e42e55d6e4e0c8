"""Rules over the inventory: their types, what each needs to know, and their severities."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from certctl.domain.errors import Invalid


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
# What depends on the version, and so is mended by a renewal, keeps nobody from one.
OF_THE_VERSION: Final = (RuleType.RENEWAL_LEAD_TIME, RuleType.CERTIFICATE_LIFETIME)


def check_config(kind: RuleType, config: Mapping[str, Any]) -> None:
    """A rule has the one setting that its type needs.

    Raises:
        Invalid: naming `config` and the setting.
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255 and "\0" not in value
