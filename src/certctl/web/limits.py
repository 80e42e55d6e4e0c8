"""Budgets: a token bucket for each caller, in memory that stays bounded whoever comes."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Final

from certctl.domain.errors import TooMany

MOST_BUCKETS: Final = 50_000
SHARED: Final = 4096
MOST_RECOGNISED: Final = 10_000


class Limiter:
    """Token buckets by key, of which no key can get more than its rate and burst.

    A bucket is the moment at which it is full again. A full one needs no memory, so that only
    full ones are forgotten; when all that may be kept are in use, newcomers share a fixed number
    of buckets, in which they may be refused early and never late.
    """

    def __init__(
        self, *, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate` is in requests a second, `burst` the most at once."""
        self.rate = self._whole_rate = rate
        self.burst = self._whole_burst = burst
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._shared = array("d", [0.0]) * SHARED

    def __len__(self) -> int:
        """The keys that are remembered one by one."""
        return len(self._full_at)

    def share(self, replicas: int) -> None:
        """Grant from now on this one's part among `replicas`, and never less than one at once."""
        self.rate = self._whole_rate / max(1, replicas)
        self.burst = max(1.0, self._whole_burst / max(1, replicas))

    def wait(self, key: str) -> float:
        """The seconds until there is a token; takes none."""
        return self._wait(self._full(key, self._clock()), self._clock())

    def spend(self, key: str) -> float:
        """Take one token: 0 when there was one, otherwise the seconds until there is."""
        now = self._clock()
        full_at = self._full(key, now)
        wait = self._wait(full_at, now)
        if wait <= 0:
            self._keep(key, full_at + 1 / self.rate, now)
        return max(0.0, wait)

    def check(self, key: str) -> None:
        """Spend, or raise TooMany with the seconds to wait, rounded up."""
        _refuse(self.spend(key))

    def look(self, key: str) -> None:
        """Raises as `check`; spends nothing."""
        _refuse(self.wait(key))

    def _full(self, key: str, now: float) -> float:
        known = self._full_at.get(key)
        return max(now, self._shared[hash(key) % SHARED] if known is None else known)

    def _wait(self, full_at: float, now: float) -> float:
        """A hair of tolerance: what rounding takes from a token is no reason to refuse."""
        tokens = self.burst - (full_at - now) * self.rate
        return 0.0 if tokens > 1 - 1e-6 else (1 - tokens) / self.rate

    def _keep(self, key: str, full_at: float, now: float) -> None:
        self._full_at.pop(key, None)
        # The oldest first: two a turn are enough for the full ones never to heap up.
        for _ in range(2):
            if self._full_at and next(iter(self._full_at.values())) <= now:
                self._full_at.popitem(last=False)
        if len(self._full_at) < MOST_BUCKETS:
            self._full_at[key] = full_at
        else:
            self._shared[hash(key) % SHARED] = full_at


def _refuse(wait: float) -> None:
    if wait > 0:
        raise TooMany("too many requests; slow down", retry_after=max(1, int(wait + 0.999)))


class AddressBudget:
    """A budget for each source address; none when limits are off."""

    def __init__(self, limits: Limiter | None) -> None:
        self._limits = limits

    def __call__(self, address: str | None) -> None:
        """Spend one. Raises TooMany."""
        if self._limits is not None:
            self._limits.check(address_key(address))

    def look(self, address: str | None) -> None:
        """Raises TooMany when there is nothing left; spends nothing."""
        if self._limits is not None:
            self._limits.look(address_key(address))


class Recognised:
    """Secrets that have proved good in this process, as hashes; the last ones used stay."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, secret: str) -> bool:
        return sha256(secret.encode()).digest() in self._hashes

    def add(self, secret: str) -> None:
        digest = sha256(secret.encode()).digest()
        self._hashes[digest] = None
        self._hashes.move_to_end(digest)
        if len(self._hashes) > MOST_RECOGNISED:
            self._hashes.popitem(last=False)


@lru_cache(maxsize=4096)
def address_key(address: str | None) -> str:
    """The key of a source address: IPv6 by /64, since one host owns so many."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)


def per_key(limits: Limiter | None) -> Callable[[str], None]:
    """A budget for each authenticated name; None when limits are off."""
    return (lambda _name: None) if limits is None else limits.check
