"""The roots that an agent believes: it learns of a new one before the server goes by it."""

from __future__ import annotations

import pytest

from tests.agent.conftest import eventually
from tests.agent.test_running import proved
from tests.connectors.kit import Authority


def believed(host) -> str:
    return (host.settings().state_folder / "ca.pem").read_text()


@pytest.mark.parametrize("presents", ["false", "true"])
async def test_an_agent_that_was_told_of_a_new_root_follows_the_server_to_it(
    host, plane, start, presents
):
    old, new = plane.ca, Authority(name="new root")
    start(CERTCTL_AGENT_CLIENT_CERTIFICATE=presents)
    await eventually(lambda: proved(plane) and proved(plane)[-1][0] is (presents == "false"))
    assert believed(host) == old.pem
    plane.shown_ca = old.pem + new.pem
    await eventually(lambda: believed(host) == old.pem + new.pem)
    plane.serve_by(new)
    await eventually(lambda: proved(plane))
    plane.shown_ca = new.pem
    await eventually(lambda: believed(host) == new.pem)
    since = len(proved(plane))
    await eventually(lambda: len(proved(plane)) > since + 5)
    assert {credential for credential, _ in proved(plane)[since:]} == {presents == "false"}


async def test_roots_by_which_the_server_cannot_be_reached_are_not_kept(host, plane, start):
    start()
    await eventually(lambda: plane.calls("/heartbeat"))
    plane.shown_ca = Authority(name="other CA").pem
    since = len(plane.calls("/ca"))
    await eventually(lambda: len(plane.calls("/ca")) > since + 2)
    assert believed(host) == plane.ca.pem
    assert list(host.settings().state_folder.glob(".tmp-*")) == []


async def test_a_ca_bundle_of_the_operator_stays_as_it_is(host, plane, start, tmp_path):
    bundle = tmp_path / "operator.pem"
    bundle.write_text(plane.ca.pem)
    start(CERTCTL_SERVER_CA_BUNDLE_PATH=str(bundle))
    await eventually(lambda: len(plane.calls("/heartbeat")) > 5)
    assert plane.calls("/ca") == []
