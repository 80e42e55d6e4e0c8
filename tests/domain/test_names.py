"""Names have one canonical form; what cannot stand in a certificate is refused with its rule."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.domain.names import NameKind, parse_name, parse_names

LABELS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", fullmatch=True)
HOSTS = (
    st.lists(LABELS, min_size=1, max_size=5)
    .map(".".join)
    .filter(lambda host: not host.replace(".", "").isdigit())
)
NAMES = st.one_of(
    HOSTS,
    HOSTS.filter(lambda host: "." in host).map(lambda host: f"*.{host}"),
    HOSTS.map(lambda host: f"ops@{host}"),
    HOSTS.map(lambda host: f"https://{host}/path"),
    st.ip_addresses().map(str),
)


@pytest.mark.parametrize(
    ("text", "kind", "canonical"),
    [
        ("A.Example.TEST", NameKind.DNS, "a.example.test"),
        ("a.example.test.", NameKind.DNS, "a.example.test"),
        ("  a.example.test ", NameKind.DNS, "a.example.test"),
        ("localhost", NameKind.DNS, "localhost"),
        ("*.Example.test", NameKind.DNS, "*.example.test"),
        ("xn--bcher-kva.example", NameKind.DNS, "xn--bcher-kva.example"),
        ("192.0.2.1", NameKind.IP, "192.0.2.1"),
        ("2001:DB8:0::1", NameKind.IP, "2001:db8::1"),
        ("::1", NameKind.IP, "::1"),
        ("Ops@Example.TEST", NameKind.EMAIL, "Ops@example.test"),
        ("spiffe://example.test/web", NameKind.URI, "spiffe://example.test/web"),
    ],
)
def test_a_name_is_classified_and_written_canonically(
    text: str, kind: NameKind, canonical: str
) -> None:
    name = parse_name(text)
    assert (name.kind, name.value) == (kind, canonical)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "1 to 253 characters"),
        ("a." * 127 + "test", "1 to 253 characters"),
        ("bücher.example", "printable ASCII"),
        ("a b.example", "printable ASCII"),
        ("a\x00.example", "printable ASCII"),
        ("a_b.example", "letters, digits and inner hyphens"),
        ("-a.example", "letters, digits and inner hyphens"),
        ("a-.example", "letters, digits and inner hyphens"),
        ("a..example", "letters, digits and inner hyphens"),
        (".example", "letters, digits and inner hyphens"),
        ("x" * 64 + ".example", "letters, digits and inner hyphens"),
        ("*", "first label only"),
        ("a.*.example", "first label only"),
        ("*.*.example", "first label only"),
        ("f*.example", "first label only"),
        ("*.example", "two labels after it"),
        ("256.1.1.1", "looks like an IP address"),
        ("192.0.2.1/24", "letters, digits"),
        ("fe80::1%eth0", "no zone"),
        ("@example.test", "not an e-mail address"),
        ("a b@example.test", "printable ASCII"),
        ("ops@*.example.test", "not an e-mail address"),
        ("://example.test", "not an absolute URI"),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused_with_it(text: str, rule: str) -> None:
    with pytest.raises(Invalid, match=rule) as caught:
        parse_name(text, field="common_name")
    assert caught.value.field == "common_name"


@given(NAMES)
def test_parsing_a_canonical_name_again_changes_nothing(text: str) -> None:
    once = parse_name(text)
    assert parse_name(once.value) == once


@given(st.text(max_size=60))
def test_any_text_is_a_canonical_name_or_refused_as_invalid(text: str) -> None:
    try:
        name = parse_name(text)
    except Invalid:
        return
    assert parse_name(name.value) == name


@given(st.ip_addresses())
def test_every_spelling_of_an_address_is_one_name(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert parse_name(address.exploded.upper()) == parse_name(str(address))


def test_names_that_are_the_same_are_kept_once_in_the_order_given() -> None:
    names = parse_names(["b.example", "A.example", "B.example.", "a.example"])
    assert [name.value for name in names] == ["b.example", "a.example"]


def test_more_names_than_a_certificate_may_hold_are_refused() -> None:
    with pytest.raises(Invalid, match="at most 100 names, not 101"):
        parse_names(f"{number}.example" for number in range(101))
