"""What a profile permits; checked wherever a CSR or an order is accepted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from certctl.domain.errors import Invalid
from certctl.domain.names import Name, NameKind

EKUS = ("serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping")
ML_DSA_SETS: Final = (44, 65, 87)
# Key families, each with the values that a rule's `min_size` may have: from the weakest key that is
# safe to the strongest that agents make. The size of an ML-DSA key is its parameter set.
KEY_SIZES: Final[Mapping[str, Sequence[int]]] = {
    "ECDSA": range(256, 385),
    "RSA": range(2048, 4097),
    "Ed25519": range(257),
    "ML-DSA": ML_DSA_SETS,
}


SHORT: Final = timedelta(hours=1)
SHORTEST: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class KeyRule:
    """One permitted key family and its least size in bits, or parameter set of ML-DSA."""

    algorithm: str
    min_size: int


@dataclass(frozen=True)
class Profile:
    """The rules of one certificate profile; `version` counts its changes. With `crl_shards` other
    than 0, the CRL of its certificates is in so many parts."""

    id: str
    version: int
    keys: tuple[KeyRule, ...]
    max_lifetime: timedelta
    ekus: tuple[str, ...]
    san_patterns: tuple[str, ...]
    must_staple: bool = False
    must_staple_critical: bool = False
    certificate_policies: tuple[str, ...] = ()
    cps_uri: str = ""
    allow_single_labels: bool = False
    enabled: bool = True
    spiffe_pattern: str = ""
    allow_short_lived: bool = False
    crl_shards: int = 0

    @property
    def is_short_lived(self) -> bool:
        """Whether expiry stands in for revocation (RFC 9608)."""
        return self.allow_short_lived and self.max_lifetime < SHORT


def warnings(values: Mapping[str, Any]) -> list[str]:
    """What whoever made a profile of these values should know."""
    if not values["must_staple_critical"]:
        return []
    return [
        "must_staple_critical: software that does not know the TLS feature extension, such as "
        "OpenSSL, refuses a certificate in which it is critical"
    ]


@dataclass(frozen=True)
class Order:
    """What is asked for: the approved names and the key that was offered."""

    names: tuple[Name, ...]
    key_algorithm: str
    key_size: int


def preferred_key(rules: Sequence[Mapping[str, Any]]) -> str:
    """The first key family that the rules allow, in the least size that they allow."""
    first: Mapping[str, Any] = rules[0] if rules else {"algorithm": "ECDSA", "min_size": 256}
    if first["algorithm"] == "RSA":
        return f"RSA-{next(size for size in (2048, 3072, 4096) if size >= first['min_size'])}"
    if first["algorithm"] == "ECDSA":
        return "ECDSA-P256" if first["min_size"] <= 256 else "ECDSA-P384"
    if first["algorithm"] == "ML-DSA":
        return f"ML-DSA-{first['min_size']}"
    return str(first["algorithm"])


def violations(profile: Profile, order: Order) -> list[str]:
    """Every rule of the profile that the order breaks, in words that name the rule."""
    found = [] if profile.enabled else ["enabled: the profile is disabled"]
    return (
        found
        + key_violations(profile, order.key_algorithm, order.key_size)
        + (name_violations(profile, order.names))
    )


def key_violations(profile: Profile, algorithm: str, size: int) -> list[str]:
    """The rule `allowed_key_algorithms`; an empty list of rules permits no key."""
    for rule in profile.keys:
        if rule.algorithm == algorithm and size >= rule.min_size:
            return []
    allowed = ", ".join(_at_least(rule) for rule in profile.keys)
    key = f"an ML-DSA-{size} key" if algorithm == "ML-DSA" else f"a {algorithm} key of {size} bits"
    return [f"allowed_key_algorithms: {key} is not among: {allowed}"]


def _at_least(rule: KeyRule) -> str:
    if rule.algorithm == "ML-DSA":
        return f"ML-DSA-{rule.min_size} or higher"
    return f"{rule.algorithm} of at least {rule.min_size} bits"


def name_violations(profile: Profile, names: tuple[Name, ...]) -> list[str]:
    """The rules `required_san_patterns` and single-label names.

    A pattern is a regular expression that must match the whole name; each name must match one.
    """
    found = []
    for name in names:
        if profile.san_patterns and not any(
            re.fullmatch(pattern, name.value) for pattern in profile.san_patterns
        ):
            found.append(f"required_san_patterns: {name} matches none of the profile's patterns")
        if name.kind is NameKind.URI and not _fits_spiffe(profile, name):
            found.append(f"spiffe_uri_pattern: {name} does not match the profile's pattern")
        if name.kind is NameKind.DNS and "." not in name.value and not profile.allow_single_labels:
            found.append(f"allow_single_labels: {name} is a single label")
    return found


def _fits_spiffe(profile: Profile, name: Name) -> bool:
    pattern = profile.spiffe_pattern
    return not pattern or re.fullmatch(pattern, name.value) is not None


# Escapes and character classes: what stands in them neither repeats nor branches.
LITERALS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")
BITS_OF_A_REPEAT: Final = 8  # a name has some 2**8 characters
MOST_BITS: Final = 24


def checked_pattern(pattern: str, field: str = "required_san_patterns") -> str:
    """A SAN pattern that compiles and cannot run away (ReDoS).

    Matching goes back to each repeat and each branch, so that their number bounds its time; no
    group is repeated, and none of the extensions `(?…)` but `(?:` is taken.

    Raises:
        Invalid: naming the field.
    """
    bare = LITERALS.sub("x", pattern)
    repeats = len(re.findall(r"[*+{]", bare))
    branches = len(re.findall(r"[?|]", bare.replace("(?:", "(")))
    runs_away = repeats * BITS_OF_A_REPEAT + branches > MOST_BITS
    unusual = re.search(r"\)[*+{?]|\(\?[^:]", bare) or re.search(r"\\[1-9]", pattern)
    if len(pattern) > 256 or runs_away or unusual:
        raise Invalid(
            f"{field}: {pattern!r}: at most 256 characters and 24 alternatives or optional parts, "
            "of which a repeat takes 8; no repeated groups, back-references or (?…)",
            field=field,
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Invalid(
            f"{field}: {pattern!r} is no regular expression: {error}", field=field
        ) from None
    return pattern
