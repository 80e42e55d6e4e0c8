"""The server's own certificate comes from the CA that signs now."""

from __future__ import annotations

from certctl.boot.platform import Built
from certctl.boot.serve import own_certificate
from certctl.pki import x509
from certctl.services import authority
from certctl.settings import load
from tests import kit
from tests.conftest import World


async def signed_by(built: Built) -> str | None:
    chain, _key = await own_certificate(built)
    return x509.facts(x509.ders_of_pem(chain)[1]).subject_cn


async def test_it_follows_a_new_issuing_ca_and_stays_below_the_same_root(world: World) -> None:
    built = Built(load({}), world.platform, world.platform, world.queue_app, world.conninfo)
    anchor = await authority.trust_anchor(world.platform, "iss-local")
    assert await signed_by(built) == "certctl issuing CA"
    root = await kit.value(world, "SELECT id FROM authorities WHERE parent_id IS NULL")
    wish = authority.NewAuthority("iss-local", root, "Issuing 2027", path_length=0)
    await authority.create(world.platform, kit.ADMIN, wish)
    assert await signed_by(built) == "Issuing 2027"
    assert await authority.trust_anchor(world.platform, "iss-local") == anchor
