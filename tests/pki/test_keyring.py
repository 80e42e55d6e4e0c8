"""A process opens what any of its keys has sealed, and seals under the current one."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Unsafe
from certctl.pki.keyring import Keyring
from certctl.pki.sealing import DataKey, Passphrase, Place, key_id_of, seal_v3
from tests.pki.test_sealing import written

PASSPHRASE = b"an operator's passphrase of 32 b."
PLACE = Place("issuers", "sealed_config", "iss-1")
FIRST, NEXT = DataKey(bytes(range(32))), DataKey.successor()


def ring(*keys: DataKey) -> Keyring:
    return Keyring(keys, current=keys[-1].id, passphrase=Passphrase(PASSPHRASE))


def test_it_seals_under_the_current_key_and_opens_under_all() -> None:
    both = ring(FIRST, NEXT)
    assert key_id_of(both.seal(b"secret", PLACE)) == NEXT.id
    for key in (FIRST, NEXT):
        assert both.unseal(key.seal(b"secret", PLACE), PLACE) == b"secret"


def test_a_key_taken_in_later_becomes_the_current_one() -> None:
    growing = ring(FIRST)
    sealed = NEXT.seal(b"secret", PLACE)
    with pytest.raises(Unsafe, match=r"issuers\.sealed_config of iss-1 does not open"):
        growing.unseal(sealed, PLACE)
    growing.put([NEXT], current=NEXT.id)
    assert growing.current == NEXT
    assert growing.unseal(sealed, PLACE) == b"secret"
    assert growing.unseal(FIRST.seal(b"old", PLACE), PLACE) == b"old"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_an_earlier_certctl_sealed_opens_under_the_passphrase(version: int) -> None:
    assert ring(FIRST).unseal(written(version, b"secret"), PLACE) == b"secret"


@pytest.mark.parametrize("mark", [b"\x04", NEXT.mark], ids=["version 4", "a key"])
def test_a_version_1_nonce_that_looks_like_a_mark_is_read(mark: bytes) -> None:
    blob = written(1, b"secret", nonce=mark.ljust(12, b"n"))
    assert ring(FIRST, NEXT).unseal(blob, PLACE) == b"secret"


def test_what_opens_by_nothing_is_told_with_its_place() -> None:
    elsewhere = FIRST.seal(b"secret", Place("issuers", "sealed_config", "iss-2"))
    damaged = bytes([*FIRST.seal(b"secret", PLACE)[:-1], 0, 0])
    for blob in (elsewhere, damaged, seal_v3(b"another", b"secret"), b""):
        with pytest.raises(Unsafe, match=r"issuers\.sealed_config of iss-1 does not open"):
            ring(FIRST, NEXT).unseal(blob, PLACE)
