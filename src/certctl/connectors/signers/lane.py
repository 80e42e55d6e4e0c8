"""Threads of one key home alone, so that a home that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import Thread
from typing import Final, ParamSpec, TypeVar

from certctl.domain.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
MOST_WAITING: Final = 1000


class Lane:
    """Does work in turn in a thread of its own, started when it is first needed.

    It is a daemon thread: a call that never comes back does not hold up the stop.
    """

    def __init__(self, name: str, timeout: timedelta) -> None:
        self._name, self._timeout = name, timeout.total_seconds()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0
        self._began: float | None = None

    @property
    def burden(self) -> float:
        """How many callers wait, and how many seconds its present call already takes."""
        began = self._began
        return self._waiting + (time.monotonic() - began if began is not None else 0)

    async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises.

        Raises:
            Unavailable: when that takes longer than the timeout, waiting included; at once while an
                earlier call does so, or a thousand wait.
        """
        began = self._began
        if began is not None and time.monotonic() - began > self._timeout:
            raise self._silent()
        if self._waiting >= MOST_WAITING:
            raise Unavailable(f"too much waits for {self._name}")
        until = time.monotonic() + self._timeout
        turn = self._turn(partial(work, *args, **kwargs), until)
        done = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(turn, self._started()))
        self._waiting += 1
        try:
            return await asyncio.wait_for(done, self._timeout)
        except TimeoutError:
            raise self._silent() from None
        finally:
            self._waiting -= 1

    async def _turn(self, work: Callable[[], T], until: float) -> T:
        """In the lane's own loop, which stands still meanwhile: that is what keeps the order.

        Work that nobody waits for any more is not begun.
        """
        if time.monotonic() >= until:
            raise self._silent()
        self._began = time.monotonic()
        try:
            return work()
        finally:
            self._began = None

    def _silent(self) -> Unavailable:
        return Unavailable(f"{self._name} does not answer within {self._timeout:g} s")

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
        return self._loop


class Lanes:
    """Several lanes to a home whose calls are round trips: each call takes the freest one, and a
    slow call delays few others."""

    def __init__(self, name: str, timeout: timedelta, *, count: int = 8) -> None:
        self._lanes = [Lane(name, timeout) for _ in range(count)]

    async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As a lane's."""
        freest = min(self._lanes, key=lambda lane: lane.burden)
        return await freest(work, *args, **kwargs)
