"""The commands against a scripted server: what is asked, what is printed, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.cli.scripted import Answer, problem
from tests.connectors.kit import free_port

MADE = "2026-11-24T06:00:00Z"


def certificate(**changes) -> dict:
    return {"id": "mc-1", "name": "www", "common_name": "www.test", "status": "Active"} | changes


def job(**changes) -> dict:
    return {
        "id": "job-1",
        "type": "Issuance",
        "status": "Completed",
        "attempts": 1,
        "max_attempts": 4,
        "last_error": None,
        "created_at": MADE,
        "completed_at": None,
    } | changes


def page(*rows: dict, total: int | None = None) -> dict:
    return {"data": list(rows), "total": total or len(rows), "page": 1, "per_page": 50}


def walk(*rows: dict) -> dict:
    return {"data": list(rows), "next_cursor": None, "page_size": 500}


def test_a_list_is_a_table(server, certctl):
    server.says("GET", "certificates", page(certificate(expires_at=MADE, issuer_id="iss-1")))
    done = certctl("certs", "list", "--status", "Active", "--page", "2")
    assert (done.exit_code, done.stdout) == (
        0,
        "ID    NAME  COMMON NAME  STATUS  EXPIRES AT            ISSUER ID\n"
        "mc-1  www   www.test     Active  2026-11-24 06:00:00Z  iss-1\n",
    )
    assert server.seen[0].query == {"status": "Active", "page": "2", "per_page": "50"}


def test_a_list_that_is_longer_says_so_beside_the_output(server, certctl):
    server.says("GET", "certificates", page(certificate(), total=77))
    done = certctl("certs", "list")
    assert done.stderr == "1 of 77; --page shows others, --all every one\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("certs", "list", "--output", "json"),
        ("--output", "json", "certs", "list"),
        ("certs", "list", "-o", "json"),
        ("--output", "yaml", "certs", "list", "-o", "json"),
    ],
)
def test_json_is_exactly_the_answer_wherever_it_is_asked_for(server, certctl, arguments):
    answer = page(certificate())
    server.says("GET", "certificates", answer)
    assert json.loads(certctl(*arguments).stdout) == answer


def test_the_environment_may_ask_for_yaml(server, certctl):
    server.says("GET", "certificates", page(certificate()))
    done = certctl("certs", "list", CERTCTL_OUTPUT="yaml")
    assert yaml.safe_load(done.stdout) == page(certificate())


def test_all_walks_the_cursor(server, certctl):
    first = {"data": [certificate()], "next_cursor": "c2", "page_size": 1}
    server.says("GET", "certificates", first, walk(certificate(id="mc-2")))
    done = certctl("certs", "list", "--all", "-o", "json")
    assert [row["id"] for row in json.loads(done.stdout)["data"]] == ["mc-1", "mc-2"]


def test_a_unique_name_stands_for_the_id(server, certctl):
    archived = certificate(id="mc-0", status="Archived")
    server.says("GET", "certificates", walk(archived, certificate()))
    server.says("GET", "certificates/mc-1", certificate())
    done = certctl("certs", "get", "www")
    assert done.exit_code == 0
    assert "mc-1" in done.stdout


def test_a_name_of_several_is_refused_with_their_ids(server, certctl):
    server.says("GET", "targets", walk({"id": "t-1", "name": "web"}, {"id": "t-2", "name": "web"}))
    done = certctl("targets", "get", "web")
    assert (done.exit_code, done.stderr) == (
        1,
        "certctl: 2 targets are named web: give one of the ids t-1, t-2\n",
    )


def test_what_is_not_found_ends_with_3(server, certctl):
    server.says("GET", "certificates", walk())
    done = certctl("certs", "get", "nope")
    assert (done.exit_code, done.stderr) == (
        3,
        "certctl: there is no id and no name nope in certificates\n",
    )


def test_a_refusal_ends_with_1_and_names_the_field(server, certctl):
    server.says("POST", "certificates", problem(400, "invalid", "is taken", field="name"))
    done = certctl("certs", "order", "www")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "certctl: name: is taken\n")


def test_wrong_usage_ends_with_2(certctl):
    assert certctl("certs", "list", "--nope").exit_code == 2
    assert certctl("certs", "revoke", "www").exit_code == 2
    assert certctl("certs", "list", "-o", "xml").exit_code == 2
    assert certctl("--server", "http://plain.test", "certs", "list").exit_code == 2


def test_an_unreachable_server_ends_with_4(certctl):
    done = certctl("certs", "list", "--server", f"https://127.0.0.1:{free_port()}")
    assert done.exit_code == 4
    assert done.stderr.count("\n") == 1


def test_a_server_that_is_unwell_ends_with_4(server, certctl):
    server.says("GET", "certificates", problem(503, "unavailable", "the database is away"))
    assert certctl("certs", "list").exit_code == 4


def test_a_message_cannot_steer_the_terminal(server, certctl):
    server.says("GET", "jobs/job-1", problem(404, "not_found", "gone\x1b[2J\nreally"))
    assert certctl("jobs", "get", "job-1").stderr == "certctl: gone [2J really\n"


def test_an_order_carries_everything_and_names_become_ids(server, certctl, tmp_path):
    csr = tmp_path / "www.csr"
    csr.write_text("-----BEGIN CERTIFICATE REQUEST-----\n")
    server.says("GET", "targets", walk({"id": "t-1", "name": "web"}))
    server.says("GET", "targets/t-1", {"id": "t-1", "name": "web"})
    server.says("POST", "certificates", Answer(201, certificate(status="Pending")))
    done = certctl(
        *("certs", "order", "www", "--san", "www.test", "--san", "10.0.0.1"),
        *("--target", "web", "--csr", str(csr), "--owner", "o-1"),
    )
    assert done.exit_code == 0, done.stderr
    assert server.seen[-1].body == {
        "name": "www",
        "common_name": "www.test",
        "sans": ["www.test", "10.0.0.1"],
        "environment": "",
        "owner_id": "o-1",
        "team_id": "t-default",
        "issuer_id": "iss-local",
        "renewal_policy_id": "rp-default",
        "certificate_profile_id": "prof-default",
        "csr_pem": csr.read_text(),
        "target_ids": ["t-1"],
    }


def test_wait_stays_until_the_jobs_have_ended_and_tells_their_states(server, certctl):
    deployment = job(id="job-2", type="Deployment", created_at="2026-11-24T06:00:01.5Z")
    old = job(id="job-0", status="Failed", created_at="2026-11-23T06:00:00Z")
    server.says("GET", "certificates/mc-1", certificate())
    server.says("POST", "certificates/mc-1/renew", Answer(202, {"job_ids": ["job-1"]}))
    server.says(
        "GET",
        "jobs",
        page(job(status="Running", type="Renewal"), old),
        page(deployment | {"status": "Pending"}, job(type="Renewal"), old),
        page(deployment, job(type="Renewal"), old),
    )
    done = certctl("certs", "renew", "mc-1", "--wait", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, certificate())
    states = [line.split("s  ")[1] for line in done.stderr.splitlines()]
    assert states == [
        "Renewal  Running",
        "Renewal  Completed",
        "Deployment  Pending",
        "Deployment  Completed",
    ]


def test_wait_ends_with_1_and_the_reason_when_a_job_has_failed(server, certctl):
    server.says("GET", "certificates/mc-1", certificate())
    server.says("POST", "certificates/mc-1/renew", Answer(202, {"job_ids": ["job-1"]}))
    server.says("GET", "jobs", page(job(status="Failed", last_error="nginx -t said no")))
    done = certctl("certs", "renew", "mc-1", "--wait")
    assert done.exit_code == 1
    assert done.stderr.endswith("certctl: Issuance job-1 is Failed (nginx -t said no)\n")


def test_wait_ends_with_4_when_its_time_is_over(server, certctl):
    server.says("GET", "certificates/mc-1", certificate())
    server.says("POST", "certificates/mc-1/renew", Answer(202, {"job_ids": ["job-1"]}))
    server.says("GET", "jobs", page(job(status="AwaitingCSR")))
    done = certctl("certs", "renew", "mc-1", "--wait", "--timeout", "1")
    assert done.exit_code == 4
    assert "not done after 1 s: Issuance job-1 is AwaitingCSR" in done.stderr


def test_wait_on_an_order_without_a_key_holder_does_not_wait(server, certctl):
    server.says("POST", "certificates", Answer(201, certificate(status="Pending")))
    server.says("GET", "jobs", page())
    server.says("GET", "certificates/mc-1", certificate(status="Pending"))
    done = certctl("certs", "order", "www", "--wait")
    assert done.exit_code == 0
    assert "no job was begun: bind a target or send --csr" in done.stderr


def test_revoke_says_how_many_versions(server, certctl):
    server.says("GET", "certificates/mc-1", certificate())
    server.says("POST", "certificates/mc-1/revoke", {"status": "revoked", "revoked_versions": 2})
    done = certctl("certs", "revoke", "mc-1", "--reason", "superseded")
    assert done.stdout == "mc-1 is revoked, 2 version(s)\n"
    assert server.seen[-1].body == {"reason": "superseded"}


def test_an_archived_certificate_is_named_to_people_and_silent_to_programs(server, certctl):
    server.says("GET", "certificates/mc-1", certificate())
    server.says("DELETE", "certificates/mc-1", Answer(204))
    assert certctl("certs", "archive", "mc-1").stdout == "mc-1 is archived\n"
    assert certctl("certs", "archive", "mc-1", "-o", "json").stdout == ""


def test_enrol_prints_the_lines_for_the_host(server, certctl):
    made = {"id": "et-1", "token": "tok.f00", "expires_at": MADE}
    server.says("POST", "agents/enrolment-tokens", Answer(201, made))
    done = certctl("agents", "enrol", "--name", "web 1", "--ttl", "60")
    assert done.stdout.splitlines()[1:] == [
        f"export CERTCTL_SERVER_URL={server.url}",
        "export CERTCTL_AGENT_ENROLMENT_TOKEN=tok.f00",
        "export CERTCTL_AGENT_NAME='web 1'",
        "certctl agent",
    ]
    assert server.seen[-1].body == {"ttl_seconds": 60}


def test_a_target_is_added_with_settings_of_their_own_types(server, certctl):
    server.says("GET", "agents/ag-1", {"id": "ag-1", "name": "web"})
    server.says("POST", "targets", Answer(201, {"id": "tgt-1"}))
    done = certctl(
        *("targets", "add", "web", "--type", "NGINX", "--agent", "ag-1"),
        *("--config", "-", "--set", "port=8443", "--set", "reload_command=nginx -s reload"),
        stdin="cert_path: /tls/web.pem\nport: 1\n",
    )
    assert done.exit_code == 0, done.stderr
    assert server.seen[-1].body["config"] == {
        "cert_path": "/tls/web.pem",
        "port": 8443,
        "reload_command": "nginx -s reload",
    }


def test_a_resource_is_added_from_a_document(server, certctl):
    server.says("POST", "teams", Answer(201, {"id": "t-1", "name": "Web"}))
    done = certctl("teams", "add", "--from", "-", stdin='{"name": "Web"}')
    assert (done.exit_code, server.seen[-1].body) == (0, {"name": "Web"})


def test_status_gathers_the_probes_and_who_i_am(server, certctl):
    server.says("GET", "/health", {"status": "healthy"})
    server.says("GET", "/ready", {"status": "ready", "db": "ok"})
    server.says("GET", "version", {"version": "1.2.3"})
    server.says("GET", "auth/check", {"actor_id": "admin", "roles": ["r-admin"]})
    done = certctl("status")
    assert (done.exit_code, done.stdout) == (
        0,
        f"server        {server.url}\n"
        "health        healthy\n"
        "ready         ready\n"
        "db            ok\n"
        "version       1.2.3\n"
        "signed in as  admin\n"
        "roles         r-admin\n",
    )


def test_status_of_a_server_that_is_not_ready_ends_with_4(server, certctl):
    server.says("GET", "/health", {"status": "healthy"})
    server.says("GET", "/ready", Answer(503, {"status": "not_ready", "worker": "away"}))
    server.says("GET", "version", {"version": "1.2.3"})
    done = certctl("status", CERTCTL_API_KEY="")
    assert done.exit_code == 4
    assert "worker        away" in done.stdout
    assert "nobody: no API key was given" in done.stdout


@pytest.mark.parametrize("group", ["certs", "jobs", "agents", "targets", "issuers", "audit"])
def test_help_of_a_group_opens_with_examples_and_ends_with_exit_statuses(certctl, group):
    text = certctl(group, "--help").stdout
    assert 0 < text.index(f"certctl {group} list") < text.index("Options:")
    assert "Exit status: 0 success; 1 refused" in text


@pytest.mark.parametrize(
    "variable", ["CERTCTL_SERVER_URL", "CERTCTL_SERVER_CA_BUNDLE_PATH", "CERTCTL_API_KEY"]
)
def test_every_command_names_the_variables_of_the_shared_options(certctl, variable):
    assert variable in "".join(certctl("certs", "order", "--help").stdout.split())


def test_a_list_loads_nothing_heavy(server):
    server.says("GET", "certificates", page(certificate()))
    code = (
        "import sys; from certctl.cli.main import app\n"
        "app(['certs', 'list'], standalone_mode=False)\n"
        "heavy = {'fastapi', 'starlette', 'psycopg', 'pkilint', 'uvicorn',\n"
        "         'cryptography', 'certctl.store', 'certctl.services', 'certctl.cli.demo.run'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    environment = {**os.environ, **server.environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def operation(**changes) -> dict:
    """What the server tells of a bulk renewal."""
    plain = {
        "id": "bulk-1",
        "kind": "renew",
        "state": "completed",
        "total_matched": 3,
        "total_enqueued": 2,
        "total_skipped": 1,
        "total_failed": 0,
        "errors": [],
    }
    return {**plain, **changes}


def test_many_are_renewed_by_filter_and_the_counts_are_told(server, certctl):
    server.says("POST", "certificates/bulk-renew", operation())
    done = certctl("bulk", "renew", "--environment", "prod")
    assert (done.exit_code, done.stdout) == (0, "2 of 3 are enqueued, 1 skipped, 0 failed\n")
    body = {key: value for key, value in server.seen[-1].body.items() if value is not None}
    assert body == {"environment": "prod", "dry_run": False}


def test_a_large_operation_is_followed_to_its_end(server, certctl):
    failed = [{"certificate_id": "mc-9", "error": "is archived"}]
    server.says("POST", "certificates/bulk-revoke", Answer(202, operation(state="running")))
    server.says(
        "GET",
        "bulk-operations/bulk-1",
        operation(kind="revoke", total_revoked=2, total_failed=1, errors=failed),
    )
    done = certctl("bulk", "revoke", "--issuer", "iss-old", "--reason", "superseded")
    assert done.exit_code == 1
    assert "2 of 3 are revoked, 1 skipped, 1 failed\nmc-9: is archived" in done.stdout


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_second_person_decides(server, certctl, word):
    past = {"approve": "approved", "reject": "rejected"}[word]
    told = {"id": "ar-1", "decided_by": "second", "action": past}
    server.says("POST", f"approvals/ar-1/{word}", told)
    done = certctl("approvals", word, "ar-1", "--note", "fine")
    assert (done.exit_code, done.stdout) == (0, f"ar-1 is {past} by second\n")
    assert server.seen[-1].body == {"note": "fine"}


def test_a_failed_job_is_begun_again(server, certctl):
    server.says("POST", "jobs/job-1/retry", Answer(202, {"job_ids": ["job-2"]}))
    assert certctl("jobs", "retry", "job-1").stdout == "job-1 is begun again: job-2\n"


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("certs", "certificates"),
        ("profiles", "profiles"),
        ("policies", "renewal-policies"),
        ("rules", "policies"),
        ("groups", "agent-groups"),
        ("issuers", "issuers"),
        ("targets", "targets"),
        ("owners", "owners"),
        ("teams", "teams"),
    ],
)
def test_a_resource_is_changed_by_a_document_of_what_changes(
    server, certctl, tmp_path, group, path
):
    document = tmp_path / "change.yaml"
    document.write_text("name: other\n")
    server.says("GET", f"{path}/x-1", {"id": "x-1", "name": "one"})
    server.says("PUT", f"{path}/x-1", {"id": "x-1", "name": "other"})
    done = certctl(group, "change", "x-1", "--from", str(document), "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"id": "x-1", "name": "other"})
    assert (server.seen[-1].method, server.seen[-1].body) == ("PUT", {"name": "other"})


def test_what_an_answer_warns_of_is_told_beside_it(server, certctl, tmp_path):
    document = tmp_path / "strict.yaml"
    document.write_text("name: strict\n")
    answer = {"id": "prof-1", "name": "strict", "warnings": ["mind the clients"]}
    server.says("POST", "profiles", Answer(201, answer))
    done = certctl("profiles", "add", "--from", str(document), "-o", "json")
    assert json.loads(done.stdout) == answer
    assert done.stderr == "warning: mind the clients\n"


WAIVER = {
    "id": "lw-1",
    "ends_at": "2030-01-01T00:00:00Z",
    "decided_by": "second",
    "state": "approved",
}


def test_a_lint_waiver_is_asked_for_with_its_end(server, certctl):
    server.says("GET", "profiles/strict", {"id": "prof-1", "name": "strict"})
    server.says("POST", "lint-waivers", Answer(201, WAIVER))
    done = certctl("waivers", "ask", "strict", "pkix.x", "--days", "365", "--because", "old client")
    assert done.stdout == "lw-1 waits for a second person; it would end 2030-01-01T00:00:00Z\n"
    sent = server.seen[-1].body
    left = datetime.fromisoformat(sent.pop("ends_at")) - datetime.now(UTC)
    assert sent == {"profile_id": "prof-1", "code": "pkix.x", "reason": "old client"}
    assert timedelta(days=364) < left < timedelta(days=365)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("approve", "lw-1 is approved by second until 2030-01-01T00:00:00Z\n"),
        ("reject", "lw-1 is rejected by second\n"),
        ("withdraw", "lw-1 is withdrawn by first\n"),
    ],
)
def test_a_lint_waiver_is_decided_and_withdrawn(server, certctl, word, said):
    server.says("POST", f"lint-waivers/lw-1/{word}", {**WAIVER, "withdrawn_by": "first"})
    done = certctl("waivers", word, "lw-1", "--note", "fine")
    assert (done.exit_code, done.stdout) == (0, said)
    assert server.seen[-1].body == {"note": "fine"}


def test_lint_waivers_are_listed_by_state_and_profile_and_shown(server, certctl):
    server.says("GET", "profiles/strict", {"id": "prof-1", "name": "strict"})
    server.says("GET", "lint-waivers", {"data": [WAIVER], "total": 1, "page": 1, "per_page": 50})
    done = certctl("waivers", "list", "--state", "approved", "--profile", "strict", "-o", "json")
    assert json.loads(done.stdout)["data"] == [WAIVER]
    query = server.seen[-1].query
    assert (query["state"], query["profile_id"]) == ("approved", "prof-1")
    server.says("GET", "lint-waivers/lw-1", WAIVER)
    assert json.loads(certctl("waivers", "get", "lw-1", "-o", "json").stdout) == WAIVER
