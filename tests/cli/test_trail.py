"""`certctl audit export`, `checkpoint` and `verify`: files, exit statuses, and what is told."""

from __future__ import annotations

import base64
import json
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certctl.pki import checkpoint as signed
from tests.audited import attested, export_of, rows, seals
from tests.cli.scripted import Answer, problem

KEY = Ed25519PrivateKey.generate()
EVENTS = rows(8)
CHAIN = seals(EVENTS, 4)
WHOLE = b"".join(export_of(EVENTS, CHAIN))


@pytest.fixture
def kept(tmp_path):
    """A folder with a checkpoint as it was collected, and the key beside it."""
    folder = tmp_path / "kept"
    folder.mkdir()
    data = signed.payload(attested(CHAIN[1]))
    (folder / "checkpoint-000000000001.json").write_bytes(data)
    (folder / "checkpoint-000000000001.sig").write_bytes(KEY.sign(data))
    (folder / "checkpoint-key.pem").write_text(signed.public_pem(KEY.public_key()))
    return folder


def exported_to(tmp_path, content=WHOLE):
    file = tmp_path / "audit.ndjson"
    file.write_bytes(content)
    return str(file)


def offline(certctl, file, kept, *more):
    key = str(kept / "checkpoint-key.pem")
    return certctl(
        "audit", "verify", "--export", file, "--checkpoint", str(kept), "--key", key, *more
    )


def test_a_whole_export_with_a_kept_checkpoint_verifies_without_a_server(
    server, certctl, tmp_path, kept
):
    done = offline(certctl, exported_to(tmp_path), kept)
    assert done.exit_code == 0, done.stderr
    assert "8 events in 2 seals: nothing was changed" in done.stdout
    assert "1 checkpoints compared" in done.stdout
    assert server.seen == []


def test_what_is_wrong_is_told_and_the_status_is_1(certctl, tmp_path, kept):
    changed = [{**row, "actor": "x"} if row["sequence"] == 2 else row for row in EVENTS]
    file = exported_to(tmp_path, b"".join(export_of(changed, CHAIN)))
    done = offline(certctl, file, kept)
    assert done.exit_code == 1
    assert done.stdout == "event 2 (audit-2) was changed after it was written\n"
    told = json.loads(offline(certctl, file, kept, "-o", "json").stdout)
    assert len(told["problems"]) == 1


def test_a_rewritten_history_needs_the_checkpoint(certctl, tmp_path, kept):
    events = rows(9)[1:]
    file = exported_to(tmp_path, b"".join(export_of(events, seals(events, 4))))
    without = certctl("audit", "verify", "--export", file)
    assert without.exit_code == 0
    assert "a rewritten history cannot be told" in without.stdout
    done = offline(certctl, file, kept)
    assert done.exit_code == 1
    assert "was rewritten" in done.stdout


def test_a_checkpoint_with_another_signature_is_refused(certctl, tmp_path, kept):
    (kept / "checkpoint-000000000001.sig").write_bytes(b"0" * 64)
    done = offline(certctl, exported_to(tmp_path), kept)
    assert done.exit_code == 1
    assert "the signature of this checkpoint does not fit the key" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--checkpoint", "x", "--key", "y"), "go with --export"),
        (("--export", "x", "--checkpoint", "y"), "--key"),
        (("--export", "missing"), "cannot be read"),
        (("--export", "x", "--checkpoint", ".", "--key", "missing"), "cannot be read"),
    ],
)
def test_what_does_not_go_together_is_told(certctl, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = certctl("audit", "verify", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_server_is_asked_part_by_part(server, certctl):
    part = {"problems": [], "events": 20_000, "seals": 4}
    server.says("GET", "audit/verify", {**part, "next": "4.20000"}, {**part, "next": None})
    done = certctl("audit", "verify")
    assert done.exit_code == 0
    assert done.stdout.startswith("40000 events in 8 seals")
    assert [each.query for each in server.seen] == [{}, {"after": "4.20000"}]


def test_what_the_server_found_is_told(server, certctl):
    found = {"problems": ["seal 1: x"], "events": 1, "seals": 1, "next": None}
    server.says("GET", "audit/verify", found)
    done = certctl("audit", "verify")
    assert (done.exit_code, done.stdout) == (1, "seal 1: x\n")


def test_an_export_is_written_whole_for_its_owner_alone(server, certctl, tmp_path):
    server.says("GET", "audit/export", Answer(200, WHOLE.decode()))
    out = tmp_path / "out.ndjson"
    done = certctl(
        "audit", "export", "--from", "2030-01-01T00:00:00Z", "--to", "2031-01-01T00:00:00Z",
        "--category", "auth", "--limit", "9", "--out", str(out),
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert out.read_bytes() == WHOLE
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert server.seen[-1].query == {
        "format": "ndjson", "from": "2030-01-01T00:00:00Z", "to": "2031-01-01T00:00:00Z",
        "category": "auth", "limit": "9",
    }  # fmt: skip


def test_an_export_goes_to_stdout_where_no_file_is_named(server, certctl):
    server.says("GET", "audit/export", Answer(200, "a,b\r\n"))
    done = certctl("audit", "export", "--format", "csv")
    assert (done.exit_code, done.stdout_bytes) == (0, b"a,b\r\n")


def test_a_refused_export_leaves_no_file(server, certctl, tmp_path):
    server.says("GET", "audit/export", problem(403, "not_allowed", "this needs audit.export"))
    out = tmp_path / "out.ndjson"
    done = certctl("audit", "export", "--out", str(out))
    assert done.exit_code == 1
    assert "audit.export" in done.stderr
    assert list(tmp_path.glob("out*")) == []


def test_a_checkpoint_is_kept_in_the_form_that_verify_takes(server, certctl, tmp_path):
    data = signed.payload(attested(CHAIN[1]))
    shown = {"number": 1, "payload": data.decode(),
             "signature": base64.b64encode(KEY.sign(data)).decode()}  # fmt: skip
    server.says("GET", "audit/checkpoints/latest", shown)
    pem = signed.public_pem(KEY.public_key())
    server.says("GET", "audit/checkpoint-key", Answer(200, pem))
    out, key = tmp_path / "c.json", tmp_path / "k.pem"
    done = certctl("audit", "checkpoint", "--out", str(out), "--key", str(key))
    assert done.exit_code == 0, done.stderr
    assert (out.read_bytes(), key.read_text()) == (data, pem)
    file = exported_to(tmp_path)
    done = certctl("audit", "verify", "--export", file, "--checkpoint", str(out), "--key", str(key))
    assert done.exit_code == 0, done.stdout
