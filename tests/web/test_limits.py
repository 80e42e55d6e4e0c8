"""Budgets of requests: by key, by address, each face its own, and memory that stays bounded."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain.errors import TooMany
from certctl.web import limits
from certctl.web.limits import MOST_BUCKETS, Limiter, address_key
from tests.conftest import World
from tests.web.kit import UNLIMITED, Site, client, open_site


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def two_a_second(clock: Clock) -> Limiter:
    """Two requests at once, then two a second."""
    return Limiter(rate=2, burst=2, clock=clock)


def limited(world: World, clock: Clock, *, what: str) -> Site:
    return open_site(world, budgets=replace(UNLIMITED, **{what: two_a_second(clock)}))


def test_a_bucket_fills_up_to_its_burst_and_no_further() -> None:
    clock = Clock()
    limiter = two_a_second(clock)
    assert [limiter.spend("a") for _ in range(3)] == [0, 0, 0.5]
    clock.now = 0.5
    assert [limiter.spend("a") for _ in range(2)] == [0, 0.5]
    clock.now = 1000.0
    assert [limiter.spend("a") for _ in range(3)] == [0, 0, 0.5]


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    limiter = two_a_second(clock)
    for _ in range(100):
        limiter.spend("a")
    clock.now = 0.5
    assert limiter.spend("a") == 0


def test_one_caller_does_not_spend_what_another_has() -> None:
    limiter = two_a_second(Clock())
    assert [limiter.spend(name) for name in ("a", "a", "b", "b")] == [0, 0, 0, 0]


def test_the_wait_is_told_in_whole_seconds_rounded_up() -> None:
    limiter = Limiter(rate=0.4, burst=1, clock=Clock())
    limiter.check("a")
    with pytest.raises(TooMany) as told:
        limiter.check("a")
    assert told.value.retry_after == 3


def bytes_of(limiter: Limiter) -> int:
    held = limiter._full_at
    return (
        sys.getsizeof(held)
        + sys.getsizeof(limiter._shared)
        + sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in held.items())
    )


def test_a_million_addresses_at_once_take_no_more_than_sixteen_mebibytes() -> None:
    limiter = Limiter(rate=50, burst=100, clock=Clock())
    for number in range(1_000_000):
        limiter.spend(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::")
    assert len(limiter) == MOST_BUCKETS
    assert bytes_of(limiter) < 16 * 2**20


def test_addresses_that_come_once_are_forgotten_when_their_buckets_are_full_again() -> None:
    clock = Clock()
    limiter = two_a_second(clock)
    for number in range(10_000):
        limiter.spend(str(number))
        clock.now += 0.01
    assert len(limiter) <= 100  # those of the last second


def test_no_number_of_other_addresses_gives_back_what_a_caller_has_spent() -> None:
    limiter = two_a_second(Clock())
    for _ in range(2):
        limiter.spend("flooding")
    for number in range(2 * MOST_BUCKETS):
        limiter.spend(str(number))
    assert limiter.spend("flooding") > 0


def test_a_newcomer_shares_a_bucket_while_all_are_in_use() -> None:
    clock = Clock()
    limiter = two_a_second(clock)
    for number in range(MOST_BUCKETS):
        limiter.spend(str(number))
    assert [limiter.spend("late") for _ in range(3)] == [0, 0, 0.5]
    clock.now = 1.0
    assert [limiter.spend("late") for _ in range(3)] == [0, 0, 0.5]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_no_caller_gets_more_than_rate_and_burst_in_any_span_of_time(
    asked: list[tuple[str, float]], most: int
) -> None:
    """However few buckets there are, down to none."""
    clock = Clock()
    limiter = two_a_second(clock)
    granted: dict[str, list[float]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MOST_BUCKETS", most)
        for key, pause in asked:
            clock.now += pause
            if limiter.spend(key) == 0:
                granted.setdefault(key, []).append(clock.now)
    for times in granted.values():
        for first, last in itertools.combinations(range(len(times)), 2):
            span = times[last] - times[first]
            assert last - first + 1 <= 2 + 2 * span + 1e-5


@given(st.lists(st.floats(0.5, 2), min_size=1, max_size=30))
def test_who_asks_no_faster_than_the_rate_is_never_refused(pauses: list[float]) -> None:
    clock = Clock()
    limiter = Limiter(rate=2, burst=1, clock=clock)
    for pause in pauses:
        assert limiter.spend("a") == 0
        clock.now += pause


def test_a_replica_grants_its_part_and_one_at_least() -> None:
    clock = Clock()
    limiter = Limiter(rate=4, burst=8, clock=clock)
    limiter.share(4)
    assert [limiter.spend("a") for _ in range(3)] == [0, 0, 1]
    limiter.share(100)
    assert [limiter.spend("b") for _ in range(2)] == [0, 25]
    limiter.share(1)
    assert [limiter.spend("c") for _ in range(9)] == [*([0] * 8), 0.25]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        (None, "a unix socket", True),
    ],
)
def test_an_address_is_counted_as_the_host_that_owns_it(
    one: str | None, other: str | None, same: bool
) -> None:
    assert (address_key(one) == address_key(other)) is same


async def test_a_key_that_asks_too_often_is_told_when_to_come_again(world: World) -> None:
    clock = Clock()
    site = limited(world, clock, what="by_key")
    async with site.client:
        for _ in range(2):
            assert (await site.call("GET", "/auth/check")).status_code == 200
        answer = await site.call("GET", "/auth/check")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert answer.json()["error"] == "too_many_requests"
        clock.now = 1.0
        assert (await site.call("GET", "/auth/check")).status_code == 200


async def test_a_key_has_its_own_budget_from_every_address(world: World) -> None:
    site = limited(world, Clock(), what="by_key")
    viewer = await site.key("r-viewer")
    for _ in range(2):
        await site.call("GET", "/auth/check")
    assert (await site.call("GET", "/auth/check")).status_code == 429
    assert (await site.call("GET", "/auth/check", key=viewer)).status_code == 200


async def test_strangers_are_counted_by_address_and_callers_are_not(world: World) -> None:
    site = limited(world, Clock(), what="by_address")
    assert (await site.call("GET", "/teams")).status_code == 200
    for _ in range(2):
        assert (await site.call("GET", "/teams", key="wrong")).status_code == 401
    answer = await site.call("GET", "/teams", key=None)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert (await site.call("GET", "/teams")).status_code == 200
    door = site.client._transport.app  # type: ignore[attr-defined]
    async with client(door, address="198.51.100.1") as other:
        assert (await other.get("/api/v1/teams")).status_code == 401


async def test_a_guess_is_not_even_tried_once_the_address_has_spent_its_budget(
    world: World,
) -> None:
    """Or the answer to a right one would show beyond every limit."""
    clock = Clock()
    site = limited(world, clock, what="by_address")
    for _ in range(2):
        await site.call("GET", "/teams", key="wrong")
    assert (await site.call("GET", "/teams")).status_code == 429
    clock.now = 0.5
    assert (await site.call("GET", "/teams")).status_code == 200


async def test_public_faces_are_counted_by_address(world: World) -> None:
    site = limited(world, Clock(), what="by_address")
    statuses = [(await site.client.get("/health")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = await site.client.post("/api/v1/agents/enrol", json={})
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_requests")


async def test_relying_parties_have_a_budget_of_their_own_and_are_told_in_text(
    world: World,
) -> None:
    site = limited(world, Clock(), what="status_by_address")
    path = "/.well-known/pki/crl/iss-local"
    answers = [await site.client.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"
    assert answers[2].headers["Content-Type"].startswith("text/plain")
    assert (await site.client.get(path)).status_code == 429
    assert (await site.client.get("/health")).status_code == 200
