"""X.690: what we write, others read; what is not strict DER, we do not read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der import decoder
from pyasn1.type import univ

from certctl.domain.errors import Invalid
from certctl.pki import der


@given(st.integers(min_value=-(1 << 170), max_value=1 << 170))
def test_integers_are_what_pyasn1_reads_and_come_back(value: int) -> None:
    written = der.integer(value)
    assert int(decoder.decode(written)[0]) == value
    assert der.number_of(der.single(written, der.INTEGER)) == value


@given(
    st.integers(0, 2).flatmap(
        lambda first: st.tuples(
            st.just(first),
            st.integers(0, 39 if first < 2 else 1 << 30),
            st.lists(st.integers(0, 1 << 40), max_size=8),
        )
    )
)
def test_object_identifiers_are_what_pyasn1_reads_and_come_back(arcs) -> None:
    first, second, rest = arcs
    dotted = ".".join(map(str, (first, second, *rest)))
    written = der.oid(dotted)
    assert str(decoder.decode(written)[0]) == dotted
    assert der.dotted_of(der.single(written, der.OID)) == dotted


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_every_length_form_is_read_by_pyasn1(size: int) -> None:
    written = der.octets(b"x" * size)
    assert decoder.decode(written)[0] == univ.OctetString(b"x" * size)
    assert len(der.single(written, der.OCTET_STRING).body) == size


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
        (datetime(1949, 1, 1, tzinfo=UTC), b"\x18\x0f19490101000000Z"),
        (
            datetime(2050, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            b"\x17\x0d491231230000Z",
        ),
    ],
)
def test_times_change_form_with_the_year_in_utc(at: datetime, written: bytes) -> None:
    assert der.time(at) == written


@pytest.mark.parametrize(
    "data",
    [
        "30",
        "3003",
        "300302",
        "3080020100 0000",
        "30810302010a",
        "3082000302010a",
        "30850000000003 02010a",
        "3f0100",
        "1f8101 00",
        "30ff",
    ],
)
def test_loose_or_broken_encodings_are_refused(data: str) -> None:
    with pytest.raises(Invalid):
        der.members(bytes.fromhex(data))


@pytest.mark.parametrize("data", ["0200", "02020001", "0202ff80"])
def test_padded_and_empty_integers_are_refused(data: str) -> None:
    with pytest.raises(Invalid):
        der.number_of(der.single(bytes.fromhex(data), der.INTEGER))


@pytest.mark.parametrize("data", ["0600", "060180", "06028001", "060188", "0641" + "01" * 65])
def test_cut_padded_and_endless_object_identifiers_are_refused(data: str) -> None:
    with pytest.raises(Invalid):
        der.dotted_of(der.single(bytes.fromhex(data), der.OID))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_what_is_read_is_all_of_the_data_and_nothing_else(data: bytes) -> None:
    try:
        found = der.elements(data)
    except Invalid:
        return
    assert b"".join(element.raw for element in found) == data
    assert all(der.tlv(element.tag, element.body) == element.raw for element in found)
