"""Becoming an agent: the first start, and every other one."""

from __future__ import annotations

import asyncio

import pytest

from certctl.agent.join import join
from certctl.agent.run import serve
from certctl.agent.state import Identity, State
from certctl.domain.errors import Unsafe
from tests.agent.conftest import QUICK, eventually
from tests.agent.plane import AGENT, CREDENTIAL, TOKEN
from tests.connectors.kit import Authority


async def joined(host, **changes):
    settings = host.settings(**changes)
    return await join(settings, State(settings.state_folder), backoff=QUICK.backoff())


async def test_the_first_start_pins_the_ca_and_keeps_the_credential(host, plane):
    membership = await joined(host)
    assert membership.identity == Identity(AGENT, CREDENTIAL, plane.url)
    assert membership.ca_file.read_text() == plane.ca.pem
    for name in ("agent.json", "ca.pem"):
        assert (host.folder / "agent" / name).stat().st_mode & 0o777 == 0o600
    [enrolment] = plane.calls("/enrol")
    assert enrolment.body["token"] == TOKEN
    assert enrolment.body["name"] == "web-1"
    assert enrolment.body["os"] == "linux"
    assert enrolment.body["ip_address"] == "127.0.0.1"


async def test_the_second_start_needs_no_token(host, plane):
    first = await joined(host)
    plane.seen.clear()
    assert await joined(host, CERTCTL_AGENT_ENROLMENT_TOKEN="") == first
    assert plane.seen == []


async def test_the_token_is_not_shown_to_a_server_of_another_ca(host, plane):
    token = f"{TOKEN}.{Authority().fingerprint}"
    with pytest.raises(Unsafe, match="nothing was sent"):
        await joined(host, CERTCTL_AGENT_ENROLMENT_TOKEN=token)
    assert [seen.path for seen in plane.seen] == ["/api/v1/ca"]
    assert not any(TOKEN in str(seen) for seen in plane.seen)
    assert not (host.folder / "agent" / "ca.pem").exists()


async def test_a_ca_that_did_not_issue_the_servers_certificate_does_not_get_the_token(host, plane):
    """Whoever is between may show the right CA certificate, but cannot use it."""
    other = Authority(name="other CA")
    plane.shown_ca = other.pem
    started = joined(host, CERTCTL_AGENT_ENROLMENT_TOKEN=f"{TOKEN}.{other.fingerprint}")
    task = asyncio.create_task(started)
    await eventually(lambda: len(plane.calls("/ca")) > 2)
    task.cancel()
    assert not any(TOKEN in str(seen) for seen in plane.seen)


async def test_a_ca_bundle_of_the_operator_is_used_as_it_is(host, plane, tmp_path):
    bundle = tmp_path / "operator.pem"
    bundle.write_text(plane.ca.pem)
    membership = await joined(host, CERTCTL_SERVER_CA_BUNDLE_PATH=str(bundle))
    assert membership.ca_file == bundle
    assert plane.calls("/ca") == []


async def test_a_refused_token_stops_the_start_with_words(host, plane):
    token = f"spent.{plane.ca.fingerprint}"
    with pytest.raises(Unsafe, match="this token is not valid"):
        await joined(host, CERTCTL_AGENT_ENROLMENT_TOKEN=token)


async def test_without_identity_and_token_the_start_stops_with_words(host):
    with pytest.raises(Unsafe, match="CERTCTL_AGENT_ENROLMENT_TOKEN"):
        await joined(host, CERTCTL_AGENT_ENROLMENT_TOKEN="")


async def test_an_identity_from_the_environment_is_used(host, plane):
    membership = await joined(host, CERTCTL_AGENT_ID="ag-9", CERTCTL_API_KEY="k")
    assert membership.identity == Identity("ag-9", "k", plane.url)


@pytest.mark.parametrize("variable", ["CERTCTL_AGENT_ID", "CERTCTL_API_KEY"])
async def test_half_an_identity_stops_the_start(host, variable):
    with pytest.raises(Unsafe, match="belong together"):
        await joined(host, **{variable: "x"})


async def test_enrolment_waits_for_a_server_that_is_away(host, plane, start):
    plane.stop()
    start()
    await eventually(lambda: (host.folder / "agent" / "keys").exists())
    plane.start()
    await eventually(lambda: plane.calls("/heartbeat"))


async def test_an_agent_that_waits_for_its_enrolment_can_be_stopped(host, plane):

    plane.stop()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(host.settings(), stop, pace=QUICK))
    await eventually(lambda: (host.folder / "agent" / "keys").exists())
    stop.set()
    await asyncio.wait_for(task, 10)
