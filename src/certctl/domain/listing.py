"""How a list is asked for: a page by number, or a walk by cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PER_PAGE: Final = 500


@dataclass(frozen=True)
class PageRequest:
    """`cursor` is None for numbered pages and empty at the start of a walk."""

    page: int = 1
    per_page: int = 50
    cursor: str | None = None
