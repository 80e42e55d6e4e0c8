"""Export, checkpoints and verification of the audit trail over the API."""

from __future__ import annotations

import base64
import csv
import io
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from certctl.domain import exported
from certctl.pki import checkpoint as signed
from certctl.services import checkpoints
from certctl.web import app
from tests import kit
from tests.audited import seal_all, tamper, write
from tests.tools import need
from tests.web.kit import Site


async def sealed(site: Site) -> None:
    await write(site.world, "one", "two")
    await seal_all(site.world)


async def test_an_export_and_a_checkpoint_of_the_api_verify_offline(site: Site) -> None:
    await sealed(site)
    assert await checkpoints.make(site.world.platform)
    shown = await site.get("/audit/checkpoints/latest")
    key = await site.call("GET", "/audit/checkpoint-key")
    assert key.headers["Content-Type"].startswith("application/x-pem-file")
    kept = signed.verified(
        shown["payload"].encode(),
        base64.b64decode(shown["signature"]),
        key=signed.load_public(key.content),
    )
    answer = await site.call("GET", "/audit/export")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.ndjson"'
    verdict = exported.verify(answer.content.splitlines(), [kept])
    assert (verdict.problems, verdict.compared) == ([], 1)


async def test_openssl_verifies_what_the_api_hands_out(site: Site, tmp_path: Path) -> None:
    await sealed(site)
    await checkpoints.make(site.world.platform)
    shown = await site.get("/audit/checkpoints/latest")
    (tmp_path / "c.json").write_text(shown["payload"])
    (tmp_path / "c.sig").write_bytes(base64.b64decode(shown["signature"]))
    key = (await site.call("GET", "/audit/checkpoint-key")).content
    (tmp_path / "key.pem").write_bytes(key)
    done = subprocess.run(
        [need("openssl"), "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem",
         "-in", "c.json", "-sigfile", "c.sig"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, "Verified Successfully" in done.stdout) == (0, True), done.stderr


async def test_a_time_and_a_form_are_chosen_by_the_established_parameters(site: Site) -> None:
    moment = quote((await kit.value(site.world, "SELECT clock_timestamp()")).isoformat())
    await write(site.world, "after")
    path = f"/audit/export?from={moment}&to=2100-01-01T00:00:00Z&category=cert_lifecycle&limit=5"
    answer = await site.call("GET", f"{path}&format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    header, *rows, end = csv.reader(io.StringIO(answer.text, newline=""))
    assert [row[header.index("action")] for row in rows] == ["after"]
    assert end[0] == "# end: complete, 1 events"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "to"),
        ("from=yesterday", "from"),
        ("from=2030-01-01T00:00:00", "from"),
        ("category=all", "category"),
        ("format=xml", "format"),
        ("limit=0", "limit"),
    ],
)
async def test_a_wish_that_does_not_parse_is_refused_by_name_and_not_audited(
    site: Site, query: str, name: str
) -> None:
    problem = await site.refused(400, "GET", f"/audit/export?{query}")
    assert problem["field"] == name
    assert not await kit.rows(
        site.world, "SELECT 1 FROM audit_events WHERE action = 'audit_exported'"
    )


async def test_who_may_read_the_trail_may_not_export_it(site: Site) -> None:
    viewer, auditor = await site.key("r-viewer"), await site.key("r-auditor")
    await site.refused(403, "GET", "/audit/export", key=viewer)
    await site.get("/audit/verify", key=viewer)
    assert (await site.call("GET", "/audit/export", key=auditor)).status_code == 200


async def test_before_the_first_there_is_no_checkpoint_and_no_key(site: Site) -> None:
    await site.refused(404, "GET", "/audit/checkpoints/latest")
    await site.refused(404, "GET", "/audit/checkpoint-key")
    assert (await site.get("/audit/checkpoints"))["data"] == []


async def test_checkpoints_are_listed_newest_first(site: Site) -> None:
    for _ in range(3):
        await sealed(site)
        await checkpoints.make(site.world.platform)
    listed = await site.get("/audit/checkpoints?per_page=2")
    assert [row["number"] for row in listed["data"]] == [3, 2]
    assert listed["total"] == 3
    assert listed["data"][0] == await site.get("/audit/checkpoints/latest")


async def test_verification_says_what_is_wrong(site: Site) -> None:
    await sealed(site)
    whole = await site.get("/audit/verify")
    assert (whole["problems"], whole["next"], whole["seals"]) == ([], None, 1)
    await tamper(site.world, "UPDATE audit_events SET actor = 'x' WHERE sequence = 1")
    (told,) = (await site.get("/audit/verify"))["problems"]
    assert told.startswith("event 1 (audit-")
    await site.refused(400, "GET", "/audit/verify?after=x")
    await site.refused(404, "GET", "/audit/verify?after=77.5")


def test_the_document_names_the_media_types_of_files() -> None:
    paths = app.openapi_document()["paths"]
    for path, kinds in (
        ("/api/v1/audit/export", {"application/x-ndjson", "text/csv"}),
        ("/api/v1/audit/checkpoint-key", {"application/x-pem-file"}),
    ):
        assert set(paths[path]["get"]["responses"]["200"]["content"]) == kinds
