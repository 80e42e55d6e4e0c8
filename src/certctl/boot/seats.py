"""How many connections a listener holds, in all and from each address."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from typing import Final

from certctl.web.forwarded import Networks, is_trusted
from certctl.web.limits import address_key

MOST_CONNECTIONS: Final = 8000
MOST_FILES: Final = 65_536
FILES_OF_OUR_OWN: Final = 256


class Seat:
    """The place of one connection; leaving it twice is leaving it once."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Seats:
    """Places for connections. A proxy that is trusted stands for many clients: it has no bound of
    its own."""

    def __init__(self, *, most: int, per_address: int, trusted: Networks = ()) -> None:
        self._most = most
        self._per_address = per_address
        self._trusted = trusted
        self._taken: Counter[str] = Counter()
        self.taken = 0

    def take(self, address: str) -> Seat | None:
        """A seat for a connection from this address; None when there is none."""
        key = address_key(address)
        if self.taken >= self._most:
            return None
        if self._taken[key] >= self._per_address and not is_trusted(address, self._trusted):
            return None
        self.taken += 1
        self._taken[key] += 1
        return Seat(lambda: self._left(key))

    def _left(self, key: str) -> None:
        self.taken -= 1
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


def connections_for(listeners: int) -> int:
    """The most connections of each listener, after the process has been given all the open files
    that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = MOST_FILES
    return max(64, min(MOST_CONNECTIONS, (soft - FILES_OF_OUR_OWN) // listeners))
