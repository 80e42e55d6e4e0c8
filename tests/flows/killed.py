"""Ends this process, as by `kill -9`, at a named step.

The product holds no fault points: an entry script of the tests wraps functions of its own
process. A step is a function, and whether the end comes before it or after it has returned.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Step:
    """`owner.name` is replaced; `only` says for which arguments the end comes."""

    owner: Any
    name: str
    before: bool = False
    only: Callable[..., bool] = lambda *_args, **_kwargs: True

    def arm(self) -> None:
        function = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self._wrapped(function))

    def _wrapped(self, function: Any) -> Any:
        if asyncio.iscoroutinefunction(function):

            @functools.wraps(function)
            async def slow(*args: Any, **kwargs: Any) -> Any:
                if self.before and self.only(*args, **kwargs):
                    die()
                answer = await function(*args, **kwargs)
                if not self.before and self.only(*args, **kwargs):
                    die()
                return answer

            return slow

        @functools.wraps(function)
        def quick(*args: Any, **kwargs: Any) -> Any:
            if self.before and self.only(*args, **kwargs):
                die()
            answer = function(*args, **kwargs)
            if not self.before and self.only(*args, **kwargs):
                die()
            return answer

        return quick
