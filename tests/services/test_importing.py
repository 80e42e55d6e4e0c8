"""Import: what is taken, what is left as it is, and what is refused in words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certctl.connectors.issuers.external import External
from certctl.domain.errors import Invalid, NotAllowed, Refused
from certctl.pki import keys
from certctl.pki.leaf import read_leaf
from certctl.pki.x509 import facts, pem
from certctl.services import certificates, importing, renew
from certctl.services.adopt import Wanted, adopt
from certctl.services.importing import Item, Plan
from tests.conftest import World
from tests.foreign import a_leaf, a_root, an_issuing_ca, full_pem
from tests.kit import (
    ADMIN,
    VIEWER,
    actions,
    an_issued_certificate,
    certificate,
    everything,
    value,
    versions_of,
)
from tests.kit import rows as found_rows
from tests.pki.made import a_key
from tests.services.test_policy import a_rule, change_rule, violations

TERMS: dict[str, Any] = {
    "owner_id": "o-default",
    "team_id": "t-default",
    "renewal_policy_id": "rp-default",
    "issuer_id": None,
    "certificate_profile_id": None,
    "environment": "legacy",
    "tags": {"rack": "7"},
}


async def take(
    world: World,
    *items: Item | str,
    watched: bool = False,
    template: str = "{cn}",
    dry_run: bool = False,
    actor: Any = ADMIN,
    **terms: Any,
) -> dict[str, Any]:
    plan = Plan({**TERMS, **terms}, watched, template, dry_run)
    sent = [item if isinstance(item, Item) else Item(item) for item in items]
    return await importing.run(world.platform, actor, plan=plan, items=sent)


async def one(world: World, item: Item | str, **how: Any) -> dict[str, Any]:
    (row,) = (await take(world, item, **how))["data"]
    return row


async def test_a_certificate_comes_under_management(world):
    leaf = a_leaf("shop.example.test", "www.example.test")
    told = await take(world, Item(full_pem(leaf), source="certbot"))
    (row,) = told["data"]
    assert (told["total"], told["total_imported"], row["outcome"]) == (1, 1, "imported")
    made = await certificate(world, row["certificate_id"])
    assert {
        name: made[name]
        for name in ("name", "common_name", "sans", "status", "source", "watched", "issuer_id",
                     "environment", "tags", "expires_at", "certificate_profile_id")
    } == {
        "name": "shop.example.test",
        "common_name": "shop.example.test",
        "sans": ["shop.example.test", "www.example.test"],
        "status": "Active",
        "source": "import:certbot",
        "watched": False,
        "issuer_id": "iss-external",
        "environment": "legacy",
        "tags": {"rack": "7"},
        "expires_at": facts(leaf).not_after,
        "certificate_profile_id": "prof-default",
    }  # fmt: skip
    (version,) = await versions_of(world, made["id"])
    assert (version["live"], version["agent_id"], version["authority_id"]) == (True, None, None)
    assert version["fingerprint_sha256"] == facts(leaf).fingerprint_sha256
    assert version["pem_chain"] == full_pem(leaf)
    assert (await actions(world))[-2:] == ["issuer_created", "certificate_imported"]


async def test_what_is_merely_watched_gets_a_policy_that_renews_nothing(world):
    row = await one(
        world, full_pem(a_leaf("a.example.test", age=88)), watched=True, renewal_policy_id=None
    )
    made = await certificate(world, row["certificate_id"])
    assert (made["watched"], made["renewal_policy_id"]) == (True, "rp-watched")
    assert made["status"] == "Expiring"
    policy = "SELECT auto_renew FROM renewal_policies WHERE id = 'rp-watched'"
    assert await value(world, policy) is False
    assert await renew.find_due(world.platform) == 0
    assert await found_rows(world, "SELECT id FROM jobs") == []


async def test_the_same_again_changes_nothing(world):
    leaf = full_pem(a_leaf("a.example.test"))
    first = await one(world, leaf)
    before = await everything(world)
    second = await one(world, leaf)
    assert (second["outcome"], second["certificate_id"]) == ("unchanged", first["certificate_id"])
    assert await everything(world) == before


async def test_a_newer_one_becomes_the_live_version_and_an_older_one_does_not(world):
    middle, newer, older = (a_leaf("a.example.test", age=age, days=100) for age in (40, 1, 80))
    first = await one(world, full_pem(middle))
    newest = await one(world, full_pem(newer))
    late = await one(world, full_pem(older))
    assert [row["outcome"] for row in (first, newest, late)] == ["imported", "updated", "unchanged"]
    live = {
        v["fingerprint_sha256"]: v["live"]
        for v in await versions_of(world, first["certificate_id"])
    }
    assert live == {
        facts(middle).fingerprint_sha256: False,
        facts(newer).fingerprint_sha256: True,
    }
    made = await certificate(world, first["certificate_id"])
    assert made["expires_at"] == facts(newer).not_after
    assert (await actions(world))[-1] == "certificate_version_imported"


async def test_an_expired_one_is_active_again_once_its_successor_is_imported(world):
    row = await one(world, full_pem(a_leaf("a.example.test", age=100, days=90)))
    made = await certificate(world, row["certificate_id"])
    assert made["status"] == "Expired"
    await one(world, full_pem(a_leaf("a.example.test", "b.example.test", age=1)))
    made = await certificate(world, row["certificate_id"])
    assert (made["status"], made["sans"]) == ("Active", ["a.example.test", "b.example.test"])


async def test_the_chain_is_put_in_order_and_strangers_are_left_out(world):
    leaf, ca = a_leaf("a.example.test"), an_issuing_ca()
    stranger = a_root(keys.KeyAlgorithm.ECDSA_P384)
    jumbled = [a_root().der, ca.der, leaf, stranger.der, ca.der, leaf]
    row = await one(world, "".join(map(pem, jumbled)))
    (version,) = await versions_of(world, row["certificate_id"])
    assert version["pem_chain"] == "".join(map(pem, (leaf, ca.der, a_root().der)))


async def test_a_failure_is_an_entry_and_keeps_no_other_out(world):
    good = [full_pem(a_leaf(f"{name}.example.test")) for name in "ab"]
    bad = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    told = await take(world, good[0], bad, pem(an_issuing_ca().der), "words", good[1])
    assert [row["outcome"] for row in told["data"]] == [
        "imported", "failed", "failed", "failed", "imported",
    ]  # fmt: skip
    assert [row["error"] for row in told["data"]][1:4] == [
        "a PEM block does not hold a certificate",
        "only CA certificates were given; give the certificate that a server shows",
        "no PEM certificate found",
    ]
    assert (told["total_imported"], told["total_failed"]) == (2, 3)


async def test_two_end_certificates_in_one_and_crowds_are_refused(world):
    many = "".join(pem(a_leaf("a.example.test")) for _ in range(21))
    assert "21 certificates" in (await one(world, many))["error"]
    both = full_pem(a_leaf("a.example.test")) + full_pem(a_leaf("b.example.test"))
    assert "2 end certificates" in (await one(world, both))["error"]


async def test_a_private_key_is_refused_before_anything_is_done(world):
    before = await everything(world)
    secret = keys.to_pem(a_key())
    with pytest.raises(Invalid, match="private key") as refusal:
        await take(
            world, full_pem(a_leaf("a.example.test")), full_pem(a_leaf("b.example.test")) + secret
        )
    assert refusal.value.field == "certificates.1.pem"
    assert secret.splitlines()[1] not in refusal.value.message
    assert await everything(world) == before


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"renewal_policy_id": None}, "renewal_policy_id"),
        ({"renewal_policy_id": "rp-none"}, "renewal_policy_id"),
        ({"owner_id": "o-none"}, "owner_id"),
        ({"issuer_id": "iss-none"}, "issuer_id"),
        ({"certificate_profile_id": "prof-none"}, "certificate_profile_id"),
        ({"template": "{cn}{serial}"}, "name_template"),
    ],
)
async def test_what_is_wrong_for_all_is_refused_by_its_field(world, terms, field):
    with pytest.raises(Invalid) as refusal:
        await take(world, full_pem(a_leaf("a.example.test")), **terms)
    assert refusal.value.field == field


async def test_a_dry_run_tells_and_leaves_nothing(world):
    before = await everything(world)
    told = await take(world, full_pem(a_leaf("a.example.test")), dry_run=True)
    assert (told["total_imported"], told["dry_run"]) == (1, True)
    assert told["data"][0]["certificate_id"] is None
    assert await everything(world) == before


async def test_a_name_of_ones_own_goes_before_the_template(world):
    told = await take(
        world,
        Item(full_pem(a_leaf("a.example.test")), name="shop"),
        full_pem(a_leaf("b.example.test")),
        template="old-{cn}",
    )
    assert [row["name"] for row in told["data"]] == ["shop", "old-b.example.test"]


async def test_a_name_that_is_taken_by_another_kind_is_refused(world):
    await an_issued_certificate(world, name="a.example.test")
    assert "was not imported" in (await one(world, full_pem(a_leaf("a.example.test"))))["error"]
    await one(world, full_pem(a_leaf("b.example.test", age=9)))
    newer = await one(world, full_pem(a_leaf("b.example.test")), watched=True)
    assert "is under management" in newer["error"]


async def test_a_certificate_of_ours_is_known_already(world):
    row = await an_issued_certificate(world)
    (version,) = await versions_of(world, row["id"])
    again = await one(world, version["pem_chain"])
    assert (again["outcome"], again["certificate_id"]) == ("unchanged", row["id"])


async def test_a_certificate_that_our_ca_signed_is_taken_under_that_ca(world):
    """The platform's own server certificate is in no inventory."""
    from datetime import timedelta

    from certctl.services import authority

    issuing = await authority.signing_authority_id(world.platform, "iss-local")
    held = await authority.service_certificate(
        world.platform, issuing, "server", grace=timedelta(0)
    )
    row = await one(world, pem(held.cert_der), template="server of certctl")
    made = await certificate(world, row["certificate_id"])
    (version,) = await versions_of(world, row["certificate_id"])
    assert (made["issuer_id"], version["authority_id"]) == ("iss-local", issuing)


async def test_a_ca_that_did_not_sign_it_may_renew_it_and_does_not_answer_for_it(world):
    row = await one(world, full_pem(a_leaf("a.example.test")), issuer_id="iss-local")
    made = await certificate(world, row["certificate_id"])
    (version,) = await versions_of(world, row["certificate_id"])
    assert (made["issuer_id"], version["issuer_id"]) == ("iss-local", "iss-external")


async def test_two_imports_at_once_make_one_certificate(world):
    leaf = full_pem(a_leaf("a.example.test"))
    told = await asyncio.gather(*(one(world, leaf) for _ in range(4)))
    assert sorted(row["outcome"] for row in told) == ["imported"] + ["unchanged"] * 3
    assert len({row["certificate_id"] for row in told}) == 1


async def test_an_archived_one_is_not_taken_up_again(world):
    leaf = full_pem(a_leaf("a.example.test"))
    row = await one(world, leaf)
    await certificates.archive(world.platform, ADMIN, row["certificate_id"])
    assert "archived certificate" in (await one(world, leaf))["error"]


TWO = ("AllowedEnvironments", "CertificateLifetime")
TOLD = "SELECT count(*) FROM notification_events WHERE type = 'PolicyViolation'"


async def test_what_breaks_a_rule_that_blocks_is_refused_alone_and_in_its_words(world):
    await a_rule(world, "RequiredMetadata", config={"required_keys": ["rack"]}, blocking=True)
    await a_rule(world, "AllowedDomains", config={"allowed_domains": ["a.test"]}, blocking=True)
    told = await take(world, full_pem(a_leaf("a.test")), full_pem(a_leaf("b.test", key=2)))
    assert (told["total_imported"], told["total_failed"]) == (1, 1)
    assert told["data"][1]["error"] == (
        "policy AllowedDomains: names outside the allowed domains: b.test"
    )
    assert await found_rows(world, "SELECT name FROM managed_certificates") == [{"name": "a.test"}]
    assert await violations(world) == []


async def test_what_breaks_other_rules_is_taken_and_told(world):
    for kind in TWO:
        await a_rule(world, kind)
    row = await one(world, full_pem(a_leaf("a.test")))
    assert {each["certificate_id"] for each in await violations(world)} == {row["certificate_id"]}
    assert len(await violations(world)) == await value(world, TOLD) == 2
    assert (await actions(world))[-2:] == ["policy_violation_opened"] * 2


async def test_a_rule_about_the_version_keeps_nobody_from_an_import(world):
    await a_rule(world, "CertificateLifetime", blocking=True)
    row = await one(world, full_pem(a_leaf("a.test")))
    assert row["outcome"] == "imported"
    assert len(await violations(world)) == 1


async def test_what_is_merely_watched_is_judged_and_never_refused(world):
    for kind in TWO:
        await a_rule(world, kind, blocking=True)
    row = await one(world, full_pem(a_leaf("a.test")), watched=True)
    assert row["outcome"] == "imported"
    assert len(await violations(world)) == 2


async def test_a_newer_version_is_judged_as_well(world):
    allowed = {"allowed_domains": ["a.test"]}
    await a_rule(world, "AllowedDomains", config=allowed, blocking=True)
    first = await one(world, full_pem(a_leaf("a.test", age=9)))
    before = await everything(world)
    newer = await one(world, full_pem(a_leaf("a.test", "b.test")))
    assert newer["error"] == "policy AllowedDomains: names outside the allowed domains: b.test"
    assert await everything(world) == before
    (version,) = await versions_of(world, first["certificate_id"])
    assert version["sans"] == ["a.test"]


async def test_a_dry_run_tells_of_the_refusal_and_keeps_no_violation(world):
    rule_id = await a_rule(world, "AllowedEnvironments", blocking=True)
    row = await one(world, full_pem(a_leaf("a.test")), dry_run=True)
    assert (
        row["error"] == "policy AllowedEnvironments: environment 'legacy' is not among the allowed"
    )
    await change_rule(world, rule_id, blocking=False)
    row = await one(world, full_pem(a_leaf("a.test")), dry_run=True)
    assert row["outcome"] == "imported"
    assert await violations(world) == []


@pytest.mark.parametrize(
    ("block_from", "refused"), [("", False), ("Critical", False), ("Error", True)]
)
async def test_a_severity_may_refuse_an_import_from_a_threshold_on(world, block_from, refused):
    await a_rule(world, "AllowedEnvironments", severity="Error")
    terms = {**TERMS, "certificate_profile_id": "prof-default"}
    wanted = Wanted(read_leaf(full_pem(a_leaf("a.test"))), "a.test", "pem", False, terms)

    async def taken():
        async with world.platform.db.transaction() as tx:
            await adopt(tx, ADMIN, wanted, block_from=block_from)

    if refused:
        with pytest.raises(Invalid, match="policy AllowedEnvironments"):
            await taken()
    else:
        await taken()
    assert len(await violations(world)) == (0 if refused else 1)


async def test_a_viewer_imports_nothing(world):
    with pytest.raises(NotAllowed):
        await take(world, full_pem(a_leaf("a.example.test")), actor=VIEWER)


async def test_the_ca_that_is_elsewhere_refuses_in_words():
    with pytest.raises(Refused, match="another issuer"):
        await External(External.Config()).check()
