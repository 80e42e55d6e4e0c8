"""Seeing what an endpoint serves."""

from __future__ import annotations

import socket
import threading

import pytest

from certctl.connectors.served import (
    Endpoint,
    Patience,
    parse_endpoint,
    served_fingerprint,
    verify_served,
)
from certctl.domain.errors import Invalid, Refused, Unavailable
from tests.connectors.kit import Authority, TlsServer, a_bundle, free_port, install

QUICK = Patience(attempts=3, timeout=5, backoff=0.01, max_backoff=0.02)


@pytest.fixture
def server(tmp_path):
    bundle = a_bundle(Authority(), "www.example.test")
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    install(bundle, cert, key)
    with TlsServer(cert, key) as running:
        running.bundle = bundle
        yield running


def test_the_leafs_fingerprint_is_seen_without_trusting_the_chain(server):
    seen = served_fingerprint("127.0.0.1", server.port, server_name=None, timeout=5)
    assert seen == server.bundle.fingerprint_sha256


@pytest.mark.parametrize(
    ("name", "asked"),
    [("www.example.test", "www.example.test"), ("127.0.0.1", None), (None, None), ("", None)],
)
def test_only_a_dns_name_is_asked_for(server, name, asked):
    served_fingerprint("127.0.0.1", server.port, server_name=name, timeout=5)
    assert server.asked == [asked]


def test_a_closed_port_is_unavailable():
    with pytest.raises(Unavailable, match="no TLS answer"):
        served_fingerprint("127.0.0.1", free_port(), server_name=None, timeout=5)


def test_a_server_that_does_not_speak_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(Unavailable):
        served_fingerprint("127.0.0.1", mute.getsockname()[1], server_name=None, timeout=0.2)


def test_a_server_that_does_not_speak_tls_is_unavailable():
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mail.example.test ESMTP\r\n")
            connection.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as plain:
        thread = threading.Thread(target=answer, args=(plain,))
        thread.start()
        with pytest.raises(Unavailable):
            served_fingerprint("127.0.0.1", plain.getsockname()[1], server_name=None, timeout=5)
        thread.join()


def test_another_leaf_is_told_with_both_fingerprints(server):
    with pytest.raises(Refused, match=server.bundle.fingerprint_sha256) as failure:
        verify_served(Endpoint("127.0.0.1", server.port), "ab" * 32, patience=QUICK)
    assert "ab" * 32 in failure.value.message
    assert len(server.asked) == QUICK.attempts


def test_a_graceful_reload_is_waited_for(server, tmp_path):
    new = a_bundle(Authority(), "www.example.test")
    install(new, server.cert, server.key)
    old_context = server.context

    def slow_reload(_socket, _name, _context):
        server.load()

    old_context.sni_callback = slow_reload
    endpoint = Endpoint("127.0.0.1", server.port, "www.example.test")
    verify_served(endpoint, new.fingerprint_sha256, patience=QUICK)
    assert server.context is not old_context


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:443", ("localhost", 443)),
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("[::1]:443", ("::1", 443)),
    ],
)
def test_endpoints_are_host_and_port(text, expected):
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text", ["", "localhost", ":443", "h:", "h:0", "h:65536", "h:x", "::1:443", "[]:443", "h:٤"]
)
def test_other_endpoints_are_refused(text):
    with pytest.raises(Invalid) as refusal:
        parse_endpoint(text, field="endpoint")
    assert refusal.value.field == "endpoint"
