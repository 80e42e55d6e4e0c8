"""The port of a place outside the database where CA keys are made and stay, such as a token."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

from certctl.pki.keys import KeyAlgorithm, PublicKey, Signer

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """Where work that signs is done, apart from the event loop; `asyncio.to_thread` is one."""

    def __call__(
        self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...


class KeyHome(Protocol):
    """Keys are known by a reference that the caller chooses and that is no secret."""

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        """The kinds of key that certctl can have it make."""
        ...

    @property
    def run(self) -> Run:
        """Threads of this home alone: while it is slow, nobody else waits.

        Raises:
            Unavailable: when the home does not answer in time.
        """
        ...

    @property
    def kept(self) -> timedelta:
        """How long the finding that one of its keys signs counts for `/ready`: where signatures are
        billed, probes are not to cause many."""
        ...

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        """The public key of `reference`; a pair that cannot leave the home is made when there is
        none. To be called through `run`.

        Raises:
            Unavailable: when the home does not answer.
            Refused: when it answers that it makes no such keys.
        """
        ...

    def signer(self, reference: str, public_key: PublicKey) -> Signer:
        """The signer of a key that was made; asks the home only when it signs. Its `sign` is to be
        called through `run`."""
        ...
