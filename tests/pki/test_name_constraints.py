"""Name constraints as we read them, compared with openssl in `tests/web/test_ca_tree.py`."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Invalid
from certctl.domain.names import parse_names
from certctl.pki.name_constraints import NameConstraints, parse

FIELD = "name_constraints"


def constraints(permitted: str = "", excluded: str = "") -> NameConstraints:
    return parse(permitted.split(), excluded.split(), field=FIELD)


@pytest.mark.parametrize(
    ("permitted", "excluded", "name", "fits"),
    [
        ("example.com", "", "example.com", True),
        ("example.com", "", "a.b.example.com", True),
        ("example.com", "", "*.example.com", True),
        ("example.com", "", "badexample.com", False),
        ("example.com", "", "example.com.evil.test", False),
        (".example.com", "", "www.example.com", True),
        ("EXAMPLE.com", "", "www.example.com", True),
        ("example.com example.net", "", "www.example.net", True),
        ("example.com", "", "10.1.2.3", True),
        ("10.0.0.0/8", "", "10.1.2.3", True),
        ("10.0.0.0/8", "", "11.1.2.3", False),
        ("10.0.0.0/8", "", "2001:db8::1", False),
        ("2001:db8::/32", "", "2001:db8::1", True),
        ("example.com", "dev.example.com", "www.example.com", True),
        ("example.com", "dev.example.com", "dev.example.com", False),
        ("example.com", "dev.example.com", "a.dev.example.com", False),
        ("example.com", "dev.example.com", "*.example.com", False),
        ("", "10.0.0.0/8", "10.0.0.1", False),
        ("", "0.0.0.0/0 ::/0", "192.0.2.1", False),
        ("", "0.0.0.0/0 ::/0", "www.example.com", True),
    ],
)
def test_a_name_fits_or_not(permitted: str, excluded: str, name: str, fits: bool) -> None:
    why = constraints(permitted, excluded).why_not(parse_names([name]))
    assert (why is None) is fits
    assert why is None or name in why


@pytest.mark.parametrize(
    ("ours", "theirs", "within"),
    [
        (("example.com", ""), ("example.com", ""), True),
        (("shop.example.com", ""), ("example.com", ""), True),
        (("example.com", ""), ("shop.example.com", ""), False),
        (("", ""), ("example.com", ""), False),
        (("", ""), ("", ""), True),
        (("example.com", ""), ("", ""), True),
        (("example.com example.net", ""), ("example.com", ""), False),
        (("10.1.0.0/16", ""), ("10.0.0.0/8", ""), True),
        (("10.0.0.0/8", ""), ("10.1.0.0/16", ""), False),
        (("example.com", ""), ("10.0.0.0/8", ""), False),
        (("", ""), ("", "dev.example.com"), False),
        (("", "example.com"), ("", "dev.example.com"), True),
        (("", "2001:db8::/32"), ("", "10.0.0.0/8"), False),
    ],
)
def test_a_ca_may_permit_no_more_than_the_one_above(
    ours: tuple[str, str], theirs: tuple[str, str], within: bool
) -> None:
    assert constraints(*ours).within(constraints(*theirs)) is within


@pytest.mark.parametrize(
    "text", ["", "*.example.com", "10.0.0.1/8", "300.0.0.0/8", "a b", "x" * 64]
)
def test_what_is_neither_domain_nor_network_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse([text], [], field=FIELD)
    assert refused.value.field == FIELD


def test_there_are_not_more_than_fifty() -> None:
    with pytest.raises(Invalid, match="50"):
        parse([f"d{n}.example.com" for n in range(51)], [], field=FIELD)
