"""A profile's rules, each broken one named; patterns that could run away are refused."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certctl.domain.errors import Invalid
from certctl.domain.names import parse_names
from certctl.domain.profile import KeyRule, Order, Profile, checked_pattern, violations

STRICT = Profile(
    id="prof-1",
    version=1,
    keys=(KeyRule("ECDSA", 256), KeyRule("RSA", 3072)),
    max_lifetime=timedelta(days=90),
    ekus=("serverAuth",),
    san_patterns=(r"[a-z0-9-]+\.example\.test", r"192\.0\.2\.[0-9]{1,3}"),
)


def an_order(*names: str, key: str = "ECDSA", size: int = 256) -> Order:
    return Order(parse_names(names), key, size)


PQ = {"keys": (KeyRule("ML-DSA", 65),)}


@pytest.mark.parametrize(
    ("order", "changes", "rules"),
    [
        (an_order("a.example.test", "192.0.2.5"), {}, []),
        (an_order("a.example.test", key="RSA", size=4096), {}, []),
        (an_order("a.example.test", key="RSA", size=2048), {}, ["allowed_key_algorithms"]),
        (an_order("a.example.test", key="Ed25519"), {}, ["allowed_key_algorithms"]),
        (an_order("a.example.test"), {"keys": ()}, ["allowed_key_algorithms"]),
        (an_order("a.example.test", key="ML-DSA", size=65), PQ, []),
        (an_order("a.example.test", key="ML-DSA", size=44), PQ, ["allowed_key_algorithms"]),
        (an_order("a.example.test"), PQ, ["allowed_key_algorithms"]),
        (an_order("a.example.test.evil.test"), {}, ["required_san_patterns"]),
        (an_order("evil.a.example.test"), {}, ["required_san_patterns"]),
        (an_order("a.example.test", "b.other"), {}, ["required_san_patterns"]),
        (an_order("localhost"), {"san_patterns": ()}, ["allow_single_labels"]),
        (an_order("localhost"), {"san_patterns": (), "allow_single_labels": True}, []),
        (an_order("a.example.test"), {"enabled": False}, ["enabled"]),
        (
            an_order("localhost", key="Ed25519"),
            {"enabled": False},
            ["enabled", "allowed_key_algorithms", "required_san_patterns", "allow_single_labels"],
        ),
    ],
)
def test_each_broken_rule_is_named(order: Order, changes: dict[str, Any], rules: list[str]) -> None:
    found = violations(replace(STRICT, **changes), order)
    assert [text.partition(":")[0] for text in found] == rules


def test_a_violation_says_what_is_allowed() -> None:
    (text,) = violations(STRICT, an_order("a.example.test", key="RSA", size=2048))
    assert "a RSA key of 2048 bits is not among: ECDSA of at least 256 bits" in text


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+x",
        r"(a|a)*x",
        r"(?:a*)*x",
        r"(a)\1",
        r"(?P<n>a*)(?P=n)",
        r"(?=a*)x",
        "a*a*a*a*a*x",
        "a?" * 30 + "a" * 30,
        "(a|a)" * 40,
        "[a]*[a]*[a]*[a]*x",
        r"a{1,200}a{1,200}a{1,200}a{1,200}x",
        "x{99999999999}",
        "(",
        "[",
        "a" * 257,
    ],
)
def test_a_pattern_that_could_run_away_or_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked_pattern(pattern)
    assert caught.value.field == "required_san_patterns"


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.example\.test",
        r"[a-z0-9-]+\.example\.test",
        r"(?:www|api|static)\.example\.(?:test|example)",
        r"[a-z]+-[0-9]+\.[a-z]+\.example\.test",
        r"[*+?{}()|]+\.example",
        r"a\+\*\?\{\|b",
        r"10\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}",
    ],
)
def test_a_pattern_of_everyday_use_is_taken(pattern: str) -> None:
    assert checked_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["a*a*a*x", "a*a*" + "a?" * 8 + "x", "a?" * 24 + "b"])
def test_the_worst_pattern_that_is_taken_ends_soon(pattern: str) -> None:
    profile = replace(STRICT, san_patterns=(checked_pattern(pattern),))
    order = an_order(".".join(["a" * 62] * 4))
    began = time.process_time()
    violations(profile, order)
    assert time.process_time() - began < 5
