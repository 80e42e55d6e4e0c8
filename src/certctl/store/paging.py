"""Pages of a list: by number with a total, or by a keyset cursor without one.

The cursor is the last row's sort value and id as base64url JSON, so that equal sort values keep
one order and a walk stays right while rows are added.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from certctl.domain.errors import Invalid
from certctl.domain.listing import PageRequest
from certctl.store.db import Row, Session


@dataclass(frozen=True)
class Order:
    """What a list is sorted by; `type` is the column's SQL type, for the cursor's cast."""

    column: str
    type: str = "timestamptz"
    descending: bool = False


@dataclass(frozen=True)
class Listing:
    """A SELECT without its WHERE, the conditions, and the parameters of both.

    `key` is the id column that breaks ties.
    """

    select: str
    source: str
    where: tuple[str, ...]
    values: dict[str, Any]
    order: Order
    key: str = "id"


async def fetch(session: Session, listing: Listing, request: PageRequest) -> dict[str, Any]:
    """`{data, total, page, per_page}`, or `{data, next_cursor, page_size}` for a cursor walk.

    Raises:
        Invalid: when the cursor is not one of ours.
    """
    if request.cursor is None:
        return await _numbered(session, listing, request)
    return await _walk(session, listing, request)


async def _numbered(session: Session, listing: Listing, request: PageRequest) -> dict[str, Any]:
    where = _where(listing.where)
    total = await session.value(
        f"SELECT count(*) FROM {listing.source} {where}",
        **listing.values,
    )
    rows = await session.all(
        f"SELECT {listing.select} FROM {listing.source} {where} "
        f"ORDER BY {_order(listing)} LIMIT %(page_limit)s OFFSET %(page_offset)s",
        **listing.values,
        page_limit=request.per_page,
        page_offset=(request.page - 1) * request.per_page,
    )
    return {"data": rows, "total": total, "page": request.page, "per_page": request.per_page}


async def _walk(session: Session, listing: Listing, request: PageRequest) -> dict[str, Any]:
    order, values, where = listing.order, dict(listing.values), list(listing.where)
    if request.cursor:
        after, last_id = read_cursor(request.cursor, order.type)
        where.append(_after(listing, after is None))
        values |= {"cursor_value": after, "cursor_id": last_id}
    rows = await session.all(
        f"SELECT {listing.select}, {order.column} AS cursor_value FROM {listing.source} "
        f"{_where(tuple(where))} ORDER BY {_order(listing)} LIMIT %(page_limit)s",
        **values,
        page_limit=request.per_page + 1,
    )
    more = len(rows) > request.per_page
    rows = rows[: request.per_page]
    token = make_cursor(rows[-1], listing.key.rsplit(".")[-1]) if more else None
    for row in rows:
        del row["cursor_value"]
    return {"data": rows, "next_cursor": token, "page_size": request.per_page}


def _after(listing: Listing, at_nulls: bool) -> str:
    """The keyset condition; rows without a sort value stand last in either direction."""
    order, key = listing.order, f'{listing.key} COLLATE "C"'
    sign = "<" if order.descending else ">"
    if at_nulls:
        return f"({order.column} IS NULL AND {key} {sign} %(cursor_id)s)"
    beyond = f"({_column(order)}, {key}) {sign} (%(cursor_value)s::{order.type}, %(cursor_id)s)"
    return f"({beyond} OR {order.column} IS NULL)" if order.column in NULLABLE else beyond


NULLABLE = frozenset({"expires_at", "completed_at", "last_heartbeat_at"})


def _order(listing: Listing) -> str:
    way = "DESC" if listing.order.descending else "ASC"
    nulls = " NULLS LAST" if listing.order.column in NULLABLE else ""
    return f'{_column(listing.order)} {way}{nulls}, {listing.key} COLLATE "C" {way}'


def _column(order: Order) -> str:
    """Texts are compared byte for byte, whatever collation the database has."""
    return f'{order.column} COLLATE "C"' if order.type == "text" else order.column


def _where(conditions: tuple[str, ...]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def make_cursor(row: Row, key: str) -> str:
    value = row["cursor_value"]
    plain = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([plain, row[key]]).encode()).decode().rstrip("=")


def read_cursor(text: str, type_name: str) -> tuple[Any, str]:
    """The sort value, of the SQL type named, and the id of the row a walk stopped at.

    Raises:
        Invalid: naming `cursor`, for anything that `make_cursor` does not make.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        value, last_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(last_id, str) or "\0" in last_id:
            raise ValueError
        return (None if value is None else VALUES[type_name](value)), last_id
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Invalid("cursor: start again with an empty cursor=", field="cursor") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or abs(value) >= 1 << 63:
        raise ValueError
    return value


VALUES: dict[str, Callable[[Any], Any]] = {
    "timestamptz": datetime.fromisoformat,
    "text": _text,
    "bigint": _number,
}
