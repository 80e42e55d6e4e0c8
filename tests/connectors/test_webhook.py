"""The signed webhook against a real receiver, and the rules of every outbound request."""

from __future__ import annotations

import gzip
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certctl.connectors import catalog, http
from certctl.connectors.notifier import Event, Notifier
from certctl.domain.errors import Invalid, Refused, Unavailable
from tests.cli.scripted import Scripted
from tests.connectors.kit import LOOPBACK, free_port
from tests.connectors.receiver import HANGS, LEAVES, Receiver, receiving, says
from tests.tools import need

SECRET = "a secret of the webhook"
EVENT = Event(
    "ne-1",
    "ExpirationWarning",
    "warning",
    "mc-1",
    "certificate www (www.test) expires soon; näheres später",
    datetime(2026, 11, 24, 6, 0, tzinfo=UTC),
)


def webhook(url: str) -> Notifier:
    return catalog.open_notifier("Webhook", {"url": url, "secret": SECRET}, reach=LOOPBACK)


async def test_an_event_is_posted_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with receiving() as receiver:
        await webhook(receiver.url).send(EVENT)
    (seen,) = receiver.seen
    assert seen.line == "POST /hook?token=in-the-url HTTP/1.1"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("certctl/")
    assert seen.event == {
        "id": "ne-1",
        "type": "ExpirationWarning",
        "severity": "warning",
        "certificate_id": "mc-1",
        "message": EVENT.message,
        "created_at": "2026-11-24T06:00:00+00:00",
    }


async def test_openssl_computes_the_same_signature(tmp_path: Path) -> None:
    async with receiving() as receiver:
        await webhook(receiver.url).send(EVENT)
    (seen,) = receiver.seen
    stamp = seen.headers["x-certctl-timestamp"]
    assert abs(int(stamp) - datetime.now(UTC).timestamp()) < 60
    signed = tmp_path / "signed"
    signed.write_bytes(stamp.encode() + b"." + seen.body)
    command = [need("openssl"), "dgst", "-sha256", "-hmac", SECRET, "-r", str(signed)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert seen.headers["x-certctl-signature"] == f"sha256={said.split()[0]}"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_success_is_a_delivery(status: int) -> None:
    async with receiving(says(status)) as receiver:
        await webhook(receiver.url).send(EVENT)
    assert len(receiver.seen) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, Unavailable), (503, Unavailable), (429, Unavailable), (400, Refused), (410, Refused)],
)
async def test_a_status_says_whether_another_try_may_help(
    status: int, error: type[Exception]
) -> None:
    async with receiving(says(status, body=b"the words of the receiver")) as receiver:
        with pytest.raises(error) as refusal:
            await webhook(receiver.url).send(EVENT)
    assert str(refusal.value).startswith(f"http://127.0.0.1:{port(receiver)} answered {status}")


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as elsewhere, receiving() as receiver:
        receiver.answer = says(307, f"Location: {elsewhere.url}")
        with pytest.raises(Refused, match="redirects are not followed"):
            await webhook(receiver.url).send(EVENT)
        assert (len(receiver.seen), elsewhere.seen) == (1, [])


async def test_a_receiver_that_leaves_without_a_word_is_unavailable() -> None:
    async with receiving(LEAVES) as receiver:
        with pytest.raises(Unavailable):
            await webhook(receiver.url).send(EVENT)


async def test_a_closed_port_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="refused"):
        await webhook(f"http://127.0.0.1:{free_port()}/").send(EVENT)


async def test_a_certificate_that_is_not_trusted_is_named_as_the_reason(tmp_path: Path) -> None:
    with (
        Scripted(tmp_path) as server,
        pytest.raises(Unavailable, match="its certificate is not trusted"),
    ):
        await webhook(server.url).send(EVENT)


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    async with receiving(says(200, body=b"x" * 70_000)) as receiver:
        with pytest.raises(Refused, match="more than 65536 bytes"):
            await webhook(receiver.url).send(EVENT)


async def test_a_packed_answer_does_not_grow() -> None:
    packed = gzip.compress(b"x" * 10_000_000)
    async with (
        receiving(says(200, "Content-Encoding: gzip", body=packed)) as receiver,
        http.client(LOOPBACK) as through,
    ):
        answer = await http.ask(through, "GET", receiver.url, most=len(packed))
    assert answer.body == packed
    assert receiver.seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("answer", [HANGS, b"HTTP/1.1 200 as told\r\nContent-Length: 5\r\n\r\nhal"])
async def test_an_answer_that_does_not_end_is_given_up(answer: bytes) -> None:
    async with receiving(answer) as receiver, http.client(LOOPBACK) as through:
        with pytest.raises(Unavailable):
            await http.ask(through, "GET", receiver.url, timeout=0.2)


async def test_what_is_told_of_a_failure_holds_no_secret() -> None:
    url = f"http://user:pass@127.0.0.1:{free_port()}/in-the-path?token=in-the-query"
    notifier = webhook(url)
    with pytest.raises(Unavailable) as refusal:
        await notifier.send(EVENT)
    told = f"{refusal.value} {notifier.recipient} {notifier!r} {vars(refusal.value)}"
    assert not any(word in told for word in ("pass@", "in-the-path", "in-the-query", SECRET))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "ftp://hooks.test/"}, "url"),
        ({"url": "https:///path"}, "url"),
        ({"url": "https://hooks.test:port/"}, "url"),
        ({"url": "https://hooks.test/a b"}, "url"),
        ({"url": "https://hooks.test/\r\nX: y"}, "url"),
        ({"secret": "short"}, "secret"),
        ({"secret": None}, "secret"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_bad_field_is_named_and_not_shown(changes: dict[str, object], field: str) -> None:
    config = {"url": "https://hooks.test/", "secret": SECRET} | changes
    with pytest.raises(Invalid) as refusal:
        catalog.open_notifier("webhook", config, reach=LOOPBACK)
    assert refusal.value.field == field
    assert not any(str(value) in str(refusal.value) for value in changes.values() if value != 1)


@pytest.mark.parametrize("kind", sorted(catalog.NOTIFIERS))
def test_every_notifier_loads_under_its_name_and_describes_its_fields(kind: str) -> None:
    found = catalog.notifier_class(kind)
    assert found.kind == kind
    assert all(field.description for field in found.Config.model_fields.values())


def port(receiver: Receiver) -> str:
    return receiver.url.split(":")[2].split("/")[0]
