"""What the routes share: pages, times, and the answers that only name a status."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from certctl.domain.errors import Invalid
from certctl.domain.listing import MAX_PER_PAGE, PageRequest

T = TypeVar("T")


class In(BaseModel):
    """A request body; a field that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    @field_validator("*")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        """PostgreSQL holds every character of a text but one."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not hold a NUL character")
        return value


class Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Page(Out, Generic[T]):
    """A numbered page has `total`, `page` and `per_page`; a cursor walk has `page_size` and
    `next_cursor`, which is null at the end."""

    data: list[T]
    total: int | None = None
    page: int | None = None
    per_page: int | None = None
    next_cursor: str | None = None
    page_size: int | None = None


class Everything(Out, Generic[T]):
    data: list[T]
    total: int


class StatusAnswer(Out):
    status: str
    job_ids: list[str] = []


async def _page(
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=MAX_PER_PAGE)] = 50,
    page_size: Annotated[int | None, Query(ge=1, le=MAX_PER_PAGE)] = None,
    cursor: Annotated[
        str | None, Query(max_length=2048, description="Empty to start a walk")
    ] = None,
) -> PageRequest:
    return PageRequest(page, page_size or per_page, cursor)


Paged = Annotated[PageRequest, Depends(_page)]
Moment = AwareDatetime
Text = Annotated[str, Field(max_length=255)]
NameText = Annotated[str, Field(min_length=1, max_length=255)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Created = datetime


def given(body: BaseModel) -> dict[str, Any]:
    """The fields that the client sent, nulls included."""
    return body.model_dump(exclude_unset=True)


def changes(body: BaseModel, *, clearable: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a PUT: null clears a field, where it can be empty.

    Raises:
        Invalid: for a null in a field that must have a value.
    """
    sent = given(body)
    for field, value in sent.items():
        if value is None and field not in clearable:
            raise Invalid(f"{field} cannot be empty", field=field)
    return sent


def filters(**values: Any) -> dict[str, Any]:
    """The filters that the client gave."""
    return {name: value for name, value in values.items() if value is not None}


def checked_email(value: str) -> str:
    if value and not re.fullmatch(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}", value):
        raise ValueError("is not an e-mail address")
    return value
