"""The settings of policy rules, and which rules can refuse."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Invalid
from certctl.domain.policy import RuleType, check_blocking, check_config


@pytest.mark.parametrize(
    "text",
    [
        "a.example.test",
        "*.example.test",
        "*.internal",
        "localhost",
        "A.Example.Test",
        "10.0.0.1",
        "2001:db8::1",
        "ops@example.test",
        "spiffe://corp.test/App",
    ],
)
def test_an_allowed_domain_is_a_name_or_a_suffix(text: str) -> None:
    check_config(RuleType.ALLOWED_DOMAINS, {"allowed_domains": ["ok.test", text]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("*", "`*.` is allowed as the first label only"),
        ("*.", "is not a DNS name"),
        ("*.*.test", "`*.` is the first label only"),
        ("a.*.test", "`*.` is allowed as the first label only"),
        (".example.test", "is not a DNS name"),
        ("exa mple.test", "outside printable ASCII"),
        ("bücher.test", "write internationalised names as A-labels"),
        ("-a.test", "is not a DNS name"),
        ("*.10.0.0", "looks like an IP address"),
        ("example.test.", "write 'example.test' instead of 'example.test.'"),
        ("*.example.test.", "write '*.example.test' instead of '*.example.test.'"),
        (" example.test", "write 'example.test' instead of ' example.test'"),
        ("2001:db8::0:1", "write '2001:db8::1' instead of '2001:db8::0:1'"),
    ],
)
def test_what_no_name_could_equal_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_config(RuleType.ALLOWED_DOMAINS, {"allowed_domains": ["ok.test", text]})
    assert refused.value.field == "config.allowed_domains"
    assert sentence in refused.value.message


@pytest.mark.parametrize("kind", RuleType)
def test_every_rule_can_refuse_but_that_about_the_end(kind: RuleType) -> None:
    if kind is RuleType.RENEWAL_LEAD_TIME:
        with pytest.raises(Invalid, match="nothing to refuse") as refused:
            check_blocking(kind)
        assert refused.value.field == "blocking"
    else:
        check_blocking(kind)
