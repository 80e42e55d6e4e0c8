"""Name constraints (RFC 5280 §4.2.1.10): which names may stand below a CA.

Of the kinds of name there are, DNS domains and IP networks can be bound. Each binds its own kind
alone: who permits a domain has not said anything about addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from cryptography import x509

from certctl.domain.errors import Invalid
from certctl.domain.names import Name, NameKind, dns_name

Network: TypeAlias = IPv4Network | IPv6Network
Subtree: TypeAlias = str | Network  # a domain with all below it, or a network
MOST: Final = 50


@dataclass(frozen=True)
class NameConstraints:
    """Subtrees as operators write them: `example.com`, `10.0.0.0/8`."""

    permitted: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.permitted or self.excluded)

    def extension(self) -> x509.NameConstraints:
        """To be critical, as RFC 5280 demands."""
        return x509.NameConstraints(_general(self.permitted), _general(self.excluded))

    def why_not(self, names: Iterable[Name]) -> str | None:
        """The sentence that says which name may not stand below the CA, or None."""
        permitted, excluded = _subtrees(self.permitted), _subtrees(self.excluded)
        for name in names:
            if name.kind not in (NameKind.DNS, NameKind.IP):
                continue
            of_kind = [each for each in permitted if _is_for(each, name)]
            if of_kind and not any(_holds(each, name) for each in of_kind):
                return f"{name} is not among the names that the CA may certify"
            if any(_touches(each, name) for each in excluded if _is_for(each, name)):
                return f"{name} is among the names that the CA may not certify"
        return None

    def within(self, other: NameConstraints) -> bool:
        """Whether all that these permit, the other permits too, as far as subtrees tell."""
        theirs, ours = _subtrees(other.permitted), _subtrees(self.permitted)
        for kind in (str, (IPv4Network, IPv6Network)):
            bounds = [each for each in theirs if isinstance(each, kind)]
            mine = [each for each in ours if isinstance(each, kind)]
            if bounds and not (mine and all(_is_below(each, bounds) for each in mine)):
                return False
        return all(_is_below(each, _subtrees(self.excluded)) for each in _subtrees(other.excluded))

    def below(self, above: NameConstraints) -> NameConstraints:
        """What holds for a CA with these below one with those (RFC 5280 §6.1.4 (g)).

        Raises:
            Invalid: when both permit subtrees of a kind, and not all of these lie in those.
        """
        if above.permitted and self.permitted and not self._permits_within(above):
            raise Invalid("permits names that the CA above it does not")
        missing = [each for each in above.permitted if not self._binds(each)]
        return NameConstraints(
            (*self.permitted, *missing), tuple(dict.fromkeys((*above.excluded, *self.excluded)))
        )

    def _binds(self, other: str) -> bool:
        return any(("/" in each) == ("/" in other) for each in self.permitted)

    def _permits_within(self, other: NameConstraints) -> bool:
        bounds = _subtrees(other.permitted)
        kinds = {isinstance(each, str) for each in bounds}
        mine = [each for each in _subtrees(self.permitted) if isinstance(each, str) in kinds]
        return all(_is_below(each, bounds) for each in mine)


NONE: Final = NameConstraints()


def parse(permitted: Sequence[str], excluded: Sequence[str], *, field: str) -> NameConstraints:
    """Canonical subtrees.

    Raises:
        Invalid: naming `field`, for what is neither a domain nor a network, and for too many.
    """
    if len(permitted) + len(excluded) > MOST:
        raise Invalid(f"{field}: at most {MOST} subtrees", field=field)
    made = (tuple(dict.fromkeys(_canonical(t, field) for t in each)) for each in
            (permitted, excluded))  # fmt: skip
    return NameConstraints(*made)


def of_certificate(certificate: x509.Certificate) -> NameConstraints:
    """Those that a CA's certificate states; subtrees of other kinds than ours are left out."""
    try:
        stated = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return NameConstraints()
    return NameConstraints(_texts(stated.permitted_subtrees), _texts(stated.excluded_subtrees))


def of_authority(certificate: x509.Certificate) -> NameConstraints:
    """As `of_certificate`, for a CA that is to sign here: it must not state what would not be kept.

    Raises:
        Invalid: for subtrees of other kinds than domains and networks.
    """
    try:
        stated = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return NameConstraints()
    every = (*(stated.permitted_subtrees or ()), *(stated.excluded_subtrees or ()))
    for each in every:
        if not isinstance(each, x509.DNSName | x509.IPAddress):
            kind = type(each).__name__
            raise Invalid(f"its name constraints bind {kind}; only DNSName and IPAddress are kept")
        if isinstance(each, x509.DNSName) and not each.value.strip("."):
            raise Invalid("its name constraints bind every domain; only certain ones are kept")
    return of_certificate(certificate)


def _canonical(text: str, field: str) -> str:
    try:
        if "/" in text:
            return str(ip_network(text))
        if "*" in text:
            raise Invalid(f"{field}: {text!r}: a domain stands for all below it", field=field)
        return dns_name(text.removeprefix("."), field=field)
    except ValueError as error:
        raise Invalid(f"{field}: {text!r} is no network: {error}", field=field) from None


@lru_cache(maxsize=256)
def _subtrees(texts: tuple[str, ...]) -> tuple[Subtree, ...]:
    return tuple(ip_network(each) if "/" in each else each for each in texts)


def _general(texts: tuple[str, ...]) -> list[x509.GeneralName] | None:
    return [
        x509.DNSName(each) if isinstance(each, str) else x509.IPAddress(each)
        for each in _subtrees(texts)
    ] or None


def _texts(names: Iterable[x509.GeneralName] | None) -> tuple[str, ...]:
    return tuple(
        str(name.value).lower().removeprefix(".")
        for name in names or ()
        if isinstance(name, x509.DNSName | x509.IPAddress)
    )


def _is_for(subtree: Subtree, name: Name) -> bool:
    return isinstance(subtree, str) == (name.kind is NameKind.DNS)


def _holds(subtree: Subtree, name: Name) -> bool:
    if isinstance(subtree, str):
        return _is_in(name.value.removeprefix("*."), subtree)
    return ip_address(name.value) in subtree


def _touches(subtree: Subtree, name: Name) -> bool:
    """Whether any name that this one stands for is in the subtree: a wildcard stands for names one
    label below its base."""
    if _holds(subtree, name):
        return True
    return (
        isinstance(subtree, str)
        and name.is_wildcard
        and _is_in(subtree, name.value.removeprefix("*."))
    )


def _is_below(subtree: Subtree, bounds: Sequence[Subtree]) -> bool:
    if isinstance(subtree, str):
        return any(isinstance(each, str) and _is_in(subtree, each) for each in bounds)
    return any(
        not isinstance(each, str) and each.version == subtree.version and subtree.subnet_of(each)  # type: ignore[arg-type]
        for each in bounds
    )


def _is_in(domain: str, base: str) -> bool:
    """RFC 5280: a domain is in itself, and whatever has labels before it is below."""
    return domain == base or domain.endswith(f".{base}")
