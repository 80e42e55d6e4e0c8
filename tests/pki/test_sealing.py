"""Sealed secrets: read as others wrote them, and closed to every other key, row and change."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Unsafe
from certctl.pki.sealing import DataKey, Passphrase, Place, key_id_of, seal_v3, unseal

PASSPHRASE = b"an operator's passphrase of 32 b."
PLACE = Place("issuers", "sealed_config", "iss-1")
KEY = DataKey(bytes(range(32)))


def written(version: int, plaintext: bytes, *, nonce: bytes = b"n" * 12) -> bytes:
    """A blob put together as the format says, by no code of ours."""
    salt = b"certctl-config-encryption-v1" if version == 1 else b"s" * 16
    rounds = {1: 100_000, 2: 100_000, 3: 600_000}[version]
    key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE, salt, rounds, 32)
    sealed = nonce + AESGCM(key).encrypt(nonce, plaintext, None)
    return sealed if version == 1 else bytes([version]) + salt + sealed


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("plaintext", [b"", b"secret", bytes(range(256)) * 40])
def test_every_version_is_read(version: int, plaintext: bytes) -> None:
    assert unseal(PASSPHRASE, written(version, plaintext)) == plaintext


@pytest.mark.parametrize("first", [2, 3])
def test_a_version_1_nonce_that_looks_like_another_version_is_read(first: int) -> None:
    nonce = bytes([first]) + b"n" * 11
    for plaintext in (b"", b"secret", b"longer than a salt and a nonce together"):
        assert unseal(PASSPHRASE, written(1, plaintext, nonce=nonce)) == plaintext


def test_version_3_is_written_as_the_format_says() -> None:
    blob = seal_v3(PASSPHRASE, b"secret")
    salt, nonce, sealed = blob[1:17], blob[17:29], blob[29:]
    key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE, salt, 600_000, 32)
    assert blob[0] == 3
    assert AESGCM(key).decrypt(nonce, sealed, None) == b"secret"


def test_two_seals_of_the_same_text_share_nothing() -> None:
    one, other = seal_v3(PASSPHRASE, b"secret"), seal_v3(PASSPHRASE, b"secret")
    assert one[1:17] != other[1:17]
    assert one[17:29] != other[17:29]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_another_passphrase_does_not_open_it(version: int) -> None:
    with pytest.raises(Unsafe, match="CERTCTL_CONFIG_ENCRYPTION_KEY"):
        unseal(b"another", written(version, b"secret"))


def test_an_empty_passphrase_neither_seals_nor_opens() -> None:
    with pytest.raises(Unsafe, match="is empty"):
        seal_v3(b"", b"secret")
    with pytest.raises(Unsafe, match="is empty"):
        unseal(b"", written(3, b"secret"))


@pytest.mark.parametrize("blob", [b"", b"\x03", b"\x02" * 28, b"\x03" * 29, b"x" * 27])
def test_what_is_too_short_is_refused(blob: bytes) -> None:
    with pytest.raises(Unsafe, match="damaged"):
        unseal(PASSPHRASE, blob)


@settings(max_examples=12, deadline=None)
@given(at=st.integers(0, 50), bit=st.integers(0, 7), version=st.sampled_from([1, 2, 3]))
def test_a_flipped_bit_is_noticed(at: int, bit: int, version: int) -> None:
    blob = bytearray(written(version, b"secret"))
    blob[at % len(blob)] ^= 1 << bit
    with pytest.raises(Unsafe):
        unseal(PASSPHRASE, bytes(blob))


places = st.builds(Place, st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))


@given(plaintext=st.binary(max_size=200), place=places)
def test_a_row_opens_with_its_key_in_its_place(plaintext: bytes, place: Place) -> None:
    blob = KEY.seal(plaintext, place)
    assert blob[0] == 4
    assert KEY.unseal(blob, place) == plaintext


@given(sealed_for=places, read_from=places)
def test_a_row_that_was_moved_does_not_open(sealed_for: Place, read_from: Place) -> None:
    blob = KEY.seal(b"secret", sealed_for)
    if sealed_for == read_from:
        assert KEY.unseal(blob, read_from) == b"secret"
    else:
        with pytest.raises(Unsafe, match="does not open"):
            KEY.unseal(blob, read_from)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Place("ab", "c", "d"), Place("a", "bc", "d")),
        (Place("a", "b", "cd"), Place("a", "bc", "d")),
        (Place("", "", "abc"), Place("abc", "", "")),
    ],
)
def test_no_two_places_share_an_encoding(one: Place, other: Place) -> None:
    assert one.encoded != other.encoded
    with pytest.raises(Unsafe):
        KEY.unseal(KEY.seal(b"secret", one), other)


def test_a_row_is_laid_out_as_documented() -> None:
    place = Place("issuers", "sealed_config", "iss-ä")
    bound_to = b"\0\0\0\7issuers\0\0\0\rsealed_config\0\0\0\6iss-\xc3\xa4"
    nonce = b"n" * 12
    blob = b"\x04" + nonce + AESGCM(bytes(range(32))).encrypt(nonce, b"secret", bound_to)
    assert KEY.unseal(blob, place) == b"secret"


@given(data=st.data())
def test_a_changed_row_does_not_open(data: st.DataObject) -> None:
    blob = KEY.seal(b"secret", PLACE)
    at = data.draw(st.integers(0, len(blob) - 1))
    damaged = bytearray(blob)
    damaged[at] ^= data.draw(st.integers(1, 255))
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    for wrong in (bytes(damaged), cut):
        with pytest.raises(Unsafe, match=r"issuers\.sealed_config of iss-1"):
            KEY.unseal(wrong, PLACE)


def test_another_data_key_does_not_open_a_row() -> None:
    with pytest.raises(Unsafe):
        DataKey.generate().unseal(KEY.seal(b"secret", PLACE), PLACE)


def test_a_data_key_is_kept_under_the_passphrase_and_shown_nowhere() -> None:
    key = DataKey.generate()
    again = DataKey.opened(Passphrase(PASSPHRASE), key.sealed(PASSPHRASE))
    assert again == key
    assert again.unseal(key.seal(b"secret", PLACE), PLACE) == b"secret"
    assert repr(key) == str(key) == "DataKey(id='data')"


def test_a_sealed_value_that_is_no_data_key_is_refused() -> None:
    with pytest.raises(Unsafe, match="6 bytes long instead of 32"):
        DataKey.opened(Passphrase(PASSPHRASE), seal_v3(PASSPHRASE, b"secret"))


def test_the_rows_of_a_later_key_name_it() -> None:
    key = DataKey(bytes(range(32)), "0123456789abcdef")
    nonce, bound_to = b"n" * 12, PLACE.encoded
    blob = b"\x05key" + bytes.fromhex(key.id) + nonce
    blob += AESGCM(bytes(range(32))).encrypt(nonce, b"secret", bound_to)
    assert key.unseal(blob, PLACE) == b"secret"
    assert key_id_of(blob) == key_id_of(key.seal(b"", PLACE)) == key.id
    assert key_id_of(KEY.seal(b"", PLACE)) == "data"
    assert [key_id_of(written(version, b"")) for version in (1, 2, 3)] == [None] * 3


def test_a_successor_is_another_key_with_an_id_of_its_own() -> None:
    one, other = DataKey.successor(), DataKey.successor()
    assert len({one.id, other.id, KEY.id}) == 3
    with pytest.raises(Unsafe):
        DataKey(one._key, other.id).unseal(one.seal(b"secret", PLACE), PLACE)


def test_a_key_is_kept_beside_another_and_opens_by_no_third() -> None:
    key = DataKey.successor()
    kept = key.beside(KEY)
    assert DataKey.opened_beside(KEY, kept, key_id=key.id) == key
    for other, name in ((DataKey.generate(), key.id), (KEY, "data")):
        with pytest.raises(Unsafe):
            DataKey.opened_beside(other, kept, key_id=name)


def test_a_salt_is_derived_from_once(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    derive = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *a: derived.append(a[2]) or derive(*a))
    words = Passphrase(PASSPHRASE)
    blobs = [written(v, b"secret") for v in (1, 2, 3) for _ in range(3)]
    derived.clear()
    assert {words.unseal(blob) for blob in blobs} == {b"secret"}
    assert len(derived) == 3
