"""Blocking work beside the event loop, without being able to hold up the end of the agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from certctl.domain.errors import CertctlError

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """The result of `work`, which must not raise, from a thread of its own.

    It is a daemon thread: unlike those of the default executor it is not waited for when the
    process ends. What a deployment leaves half-done is undone from its journal.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T) -> None:
        if not done.done():
            done.set_result(result)

    def run() -> None:
        result = work()
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


async def told(work: Callable[[], T]) -> T:
    """As `in_thread`, for work that may end in a CertctlError, which is raised here."""

    def run() -> T | CertctlError:
        try:
            return work()
        except CertctlError as error:
            return error

    result = await in_thread(run)
    if isinstance(result, CertctlError):
        raise result
    return result
