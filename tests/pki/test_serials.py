"""RFC 5280 §4.1.2.2: positive, at most 20 octets; one spelling inside certctl."""

from __future__ import annotations

import re

import pytest
from cryptography import x509 as cx509
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.pki import x509
from certctl.pki.serials import new_serial, serial_number, serial_text
from tests.pki.made import a_root, a_template, openssl


def test_serials_are_positive_differ_and_fit_twenty_octets() -> None:
    drawn = {new_serial() for _ in range(2000)}
    assert len(drawn) == 2000
    assert all(0 < serial < 1 << 159 for serial in drawn)
    # Of 2000 draws over 159 bits, some come near the top unless bits were lost.
    assert max(drawn).bit_length() == 159


def test_one_serial_in_eight_has_a_leading_zero_digit_and_keeps_its_one_spelling() -> None:
    drawn = [new_serial() for _ in range(2000)]
    short = [serial for serial in drawn if f"{serial:040x}".startswith("0")]
    assert 150 < len(short) < 350
    for serial in short:
        assert not serial_text(serial).startswith("0")
        assert serial_number(f"{serial:040x}") == serial


@pytest.mark.parametrize("serial", [0x0A, 0x7F, 0x80, 0x0FF0 << 140, (1 << 159) - 1])
def test_a_certificate_and_openssl_agree_on_the_canonical_serial(serial: int, tmp_path) -> None:
    der = a_root().issue(a_template(serial=serial))
    assert x509.facts(der).serial == serial_text(serial)
    assert cx509.load_der_x509_certificate(der).serial_number == serial
    (tmp_path / "c.der").write_bytes(der)
    said = openssl("x509", "-inform", "DER", "-in", tmp_path / "c.der", "-noout", "-serial").stdout
    digits = re.fullmatch(r"serial=([0-9A-F]+)\n", said)
    assert digits is not None
    assert serial_number(digits[1]) == serial


@pytest.mark.parametrize(
    "text", ["1aF0", "1AF0", "00001af0", "1a:f0", "00:1A:F0", " 1af0 ", "0" * 36 + "1af0"]
)
def test_every_common_spelling_means_the_same_serial(text: str) -> None:
    assert serial_text(serial_number(text)) == "1af0"


@pytest.mark.parametrize("text", ["", ":", "xyz", "0x1af0", "-1", "1 a", "1" * 41, "١", "1a\nf0"])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        serial_number(text)
    assert caught.value.field == "serial"


@given(st.integers(min_value=0, max_value=(1 << 160) - 1))
def test_text_and_number_are_inverse(serial: int) -> None:
    assert serial_number(serial_text(serial)) == serial
