"""Budgets: a token bucket for each caller, and middlewares that bound what a request may cost."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from certctl.domain.errors import TooMany

MOST_BUCKETS = 50_000


@dataclass
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """Token buckets by key. Memory is bounded: the bucket used least recently gives way."""

    def __init__(
        self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate` is in requests a second, `burst` the most at once."""
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def spend(self, key: str) -> float:
        """Take one token: 0 when there was one, otherwise the seconds until there is."""
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self.burst, now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.at) * self.rate)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self.rate
        bucket.tokens -= 1
        return 0.0

    def check(self, key: str) -> None:
        """Raises TooMany with the seconds to wait, rounded up."""
        wait = self.spend(key)
        if wait:
            raise TooMany("too many requests; slow down", retry_after=max(1, int(wait + 0.999)))


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
    if limits is None:
        return lambda _name: None
    return lambda name: limits.check(f"user:{name}")


def per_address(limits: Limiter | None) -> Callable[[str | None], None]:
    if limits is None:
        return lambda _address: None
    return lambda address: limits.check(f"ip:{address_key(address)}")
