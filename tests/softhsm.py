"""A SoftHSM token of a test's own, as an HSM's library gives it."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.connectors.key_home import Run
from certctl.connectors.signers.pkcs11 import Token
from certctl.pki.keys import KeyAlgorithm, PublicKey, Signer
from tests.tools import need

PIN = "1234-tests"
PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
_numbers = itertools.count()


@dataclass(frozen=True)
class Soft:
    """One token in the tokens' directory, which all tests of a process share: the library reads
    its configuration once."""

    module: Path
    directory: Path
    label: str

    def open(self, *, pin: str = PIN, timeout: timedelta = timedelta(seconds=10)) -> Token:
        return Token(self.module, self.label, pin=pin, timeout=timeout)

    def listed(self) -> str:
        """What `pkcs11-tool` says of the objects in the token."""
        command = (
            need("pkcs11-tool"), "--module", self.module, "--token-label", self.label,
            "--login", "--pin", PIN, "--list-objects",
        )  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def away(self) -> Iterator[None]:
        """While it lasts no token is there."""
        aside = self.directory.with_name("aside")
        self.directory.rename(aside)
        try:
            yield
        finally:
            aside.rename(self.directory)


@pytest.fixture(scope="session")
def token_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    need("softhsm2-util")
    place = tmp_path_factory.mktemp("softhsm")
    (place / "tokens").mkdir()
    (place / "softhsm2.conf").write_text(f"directories.tokendir = {place}/tokens\n")
    os.environ["SOFTHSM2_CONF"] = str(place / "softhsm2.conf")
    yield place / "tokens"
    del os.environ["SOFTHSM2_CONF"]


@pytest.fixture
def soft(token_directory: Path) -> Soft:
    """A new token."""
    label = f"tests {next(_numbers)}"
    command = (
        need("softhsm2-util"), "--init-token", "--free", "--label", label,
        "--pin", PIN, "--so-pin", "5678-tests",
    )  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    module = next(place for place in map(Path, PLACES) if place.exists())
    return Soft(module, token_directory, label)


@dataclass(frozen=True)
class WatchedHome:
    """A token whose every signature goes through `sign`."""

    token: Token
    sign: Callable[[Signer, bytes], bytes]

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        return self.token.algorithms

    @property
    def run(self) -> Run:
        return self.token.run

    @property
    def kept(self) -> timedelta:
        return self.token.kept

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        return self.token.make(reference, algorithm)

    def signer(self, reference: str, public_key: PublicKey) -> Signer:
        from tests.kit import Watched

        return Watched(self.token.signer(reference, public_key), self.sign)
