"""What an answer of the server means, over real HTTPS."""

from __future__ import annotations

import socket

import pytest

from certctl.cli.client import Api
from certctl.cli.settings import Access
from certctl.domain import errors
from tests.cli.scripted import KEY, Answer, Scripted, problem
from tests.connectors.kit import Authority, free_port


@pytest.fixture
def api(server: Scripted):
    with Api(Access(server.url, server.ca_file, KEY)) as api:
        yield api


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (400, "invalid", errors.Invalid),
        (401, "unauthenticated", errors.Unauthenticated),
        (403, "not_allowed", errors.NotAllowed),
        (404, "not_found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (410, "gone", errors.Gone),
        (412, "stale", errors.Stale),
        (413, "too_large", errors.TooLarge),
        (418, "teapot", errors.Refused),
        (500, "internal", errors.Unavailable),
        (502, "refused_upstream", errors.Refused),
        (503, "unavailable", errors.Unavailable),
    ],
)
def test_each_status_becomes_the_error_of_its_meaning(server, api, status, word, kind):
    server.says("GET", "jobs", problem(status, word, "so it is"))
    with pytest.raises(errors.CertctlError, match="so it is") as caught:
        api.get("jobs")
    assert type(caught.value) is kind


def test_the_field_to_mend_is_kept(server, api):
    server.says("POST", "teams", problem(400, "invalid", "is too long", field="name"))
    with pytest.raises(errors.Invalid) as caught:
        api.post("teams", body={})
    assert caught.value.field == "name"


def test_a_server_error_tells_the_request_id(server, api):
    server.says("GET", "jobs", problem(500, "internal", "internal error"))
    with pytest.raises(errors.Unavailable, match="request r-1"):
        api.get("jobs")


def test_a_request_that_came_too_soon_is_sent_again(server, api):
    soon = problem(429, "too_many_requests", "slow down")
    server.says("GET", "jobs", Answer(429, soon.body, {"Retry-After": "1"}), {"data": []})
    assert api.get("jobs") == {"data": []}


def test_the_key_is_the_bearer(server, api):
    server.says("GET", "jobs", {"data": []})
    api.get("jobs")
    assert server.seen[0].bearer == f"Bearer {KEY}"


def test_without_a_key_none_is_sent_and_the_refusal_says_how_to_give_one(server):
    server.says("GET", "jobs", problem(401, "unauthenticated", "sign in first"))
    with (
        Api(Access(server.url, server.ca_file)) as api,
        pytest.raises(errors.Unauthenticated, match="set CERTCTL_API_KEY"),
    ):
        api.get("jobs")
    assert server.seen[0].bearer is None


def test_a_segment_cannot_leave_its_place_in_the_path(server, api):
    server.says("GET", "jobs/../teams/x", {"fine": True})
    assert api.get("jobs", "../teams/x") == {"fine": True}
    assert server.strange.pop() == "GET /api/v1/jobs/../teams/x"


def test_a_walk_follows_the_cursor_to_its_end(server, api):
    server.says(
        "GET",
        "certificates",
        {"data": [{"id": 1}, {"id": 2}], "next_cursor": "abc", "page_size": 2},
        {"data": [{"id": 3}], "next_cursor": None, "page_size": 2},
    )
    assert [row["id"] for row in api.walk("certificates", status="Active")] == [1, 2, 3]
    assert [seen.query["cursor"] for seen in server.seen] == ["", "abc"]
    assert {seen.query["status"] for seen in server.seen} == {"Active"}


def test_an_answer_without_a_body_is_none(server, api):
    server.says("DELETE", "teams/t-1", Answer(204))
    assert api.delete("teams", "t-1") is None


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_answer_that_is_not_ours_says_so(server, api, status):
    server.says("GET", "jobs", Answer(status, "<html>hello</html>"))
    with pytest.raises(errors.Unavailable, match="not as a certctl server does"):
        api.get("jobs")


def test_a_probe_gives_what_is_wrong_with_503(server, api):
    server.says("GET", "/ready", Answer(503, {"status": "not_ready", "worker": "away"}))
    assert api.probe("/ready") == (False, {"status": "not_ready", "worker": "away"})


def test_a_server_that_is_not_there_is_unreachable():
    with (
        Api(Access(f"https://127.0.0.1:{free_port()}")) as api,
        pytest.raises(errors.Unavailable, match=r"cannot be reached .*CERTCTL_SERVER_URL"),
    ):
        api.get("jobs")


def test_a_server_of_another_ca_is_not_trusted_and_sees_no_request(server, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text(Authority(name="other CA").pem)
    with (
        Api(Access(server.url, other, KEY)) as api,
        pytest.raises(errors.Unavailable, match=r"not trusted: .*--ca-bundle"),
    ):
        api.get("jobs")
    assert server.seen == []


def test_a_ca_file_without_a_certificate_is_named(server, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(errors.Unsafe, match=r"empty\.pem holds no usable CA"):
        Api(Access(server.url, empty, KEY))


def test_something_that_speaks_no_tls_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        import threading

        def hang_up() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with Api(Access(url)) as api, pytest.raises(errors.Unavailable, match="cannot be reached"):
            api.get("jobs")
        thread.join(5)
