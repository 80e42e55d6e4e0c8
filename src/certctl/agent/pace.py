"""How often the agent speaks, and how it backs off."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pace:
    """All in seconds. `trust` is how often the server is asked for its roots; `poll_floor` keeps
    polls apart when the server does not hold them; `staple_floor` keeps refreshes of a staple
    apart, `staple_spread` is the time over which those after a start are spread."""

    heartbeat: float = 60.0
    trust: float = 3600.0
    poll_floor: float = 1.0
    first_retry: float = 1.0
    longest_retry: float = 300.0
    grace: float = 30.0
    staple_floor: float = 15.0
    staple_spread: float = 5.0

    def backoff(self) -> Backoff:
        return Backoff(self.first_retry, self.longest_retry)


@dataclass
class Backoff:
    """Full jitter: each pause is random below a limit that doubles, so that a fleet whose server
    was away does not come back at one moment."""

    first: float
    longest: float
    random: random.Random = field(default_factory=random.SystemRandom)
    failures: int = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        limit = min(self.longest, self.first * 2 ** min(self.failures, 32))
        self.failures += 1
        return self.random.uniform(0, limit)

    def reset(self) -> None:
        self.failures = 0
