"""`certctl certs import`: directories as the tools make them, and what is sent of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from certctl.cli.exits import OneSentence
from certctl.cli.importing import command, import_
from certctl.cli.importing.find import Format, find
from certctl.cli.importing.found import Found
from certctl.cli.main import root
from certctl.cli.options import ApiCommand
from certctl.domain.errors import NotFound
from certctl.pki import keys
from certctl.pki.x509 import ders_of_pem, pem
from tests.cli.scripted import Answer, Scripted, problem
from tests.foreign import a_leaf, chain, full_pem
from tests.pki.made import a_key, a_root

KEY = keys.to_pem(a_key(number=1))
Run = Callable[..., Result]


@pytest.fixture
def run(server: Scripted) -> Run:
    app = typer.Typer(cls=OneSentence, add_completion=False)
    app.callback()(root)
    app.command("import", cls=ApiCommand)(import_)

    def invoke(*arguments: str | Path) -> Result:
        told = ["import", *map(str, arguments)]
        return CliRunner().invoke(app, told, env=server.environment)

    return invoke


def put(folder: Path, **files: str) -> None:
    """Files by name; `__` stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def chain_pem() -> str:
    return "".join(map(pem, chain()))


def certbot(root: Path, lineage: str, leaf: bytes) -> None:
    """What `certbot certonly` leaves behind, after one renewal."""
    archive, live = root / "archive" / lineage, root / "live" / lineage
    old = a_leaf("old.example.test", age=60)
    for number, one in ((1, old), (2, leaf)):
        put(
            archive,
            **{
                f"cert{number}__pem": pem(one),
                f"chain{number}__pem": chain_pem(),
                f"fullchain{number}__pem": full_pem(one),
                f"privkey{number}__pem": KEY,
            },
        )
    live.mkdir(parents=True)
    for part in ("cert", "chain", "fullchain", "privkey"):
        (live / f"{part}.pem").symlink_to(f"../../archive/{lineage}/{part}2.pem")
    put(root / "renewal", **{f"{lineage}__conf": "version = 2.9.0\n"})


def acme_sh(root: Path, domain: str, leaf: bytes, *, suffix: str = "") -> None:
    folder = root / f"{domain}{suffix}"
    put(folder, fullchain__cer=full_pem(leaf), ca__cer=chain_pem())
    for ending, text in ((".cer", pem(leaf)), (".key", KEY), (".conf", f"Le_Domain='{domain}'\n")):
        (folder / f"{domain}{ending}").write_text(text)


def lego(root: Path, domain: str, leaf: bytes) -> None:
    folder = root / "certificates"
    folder.mkdir(parents=True, exist_ok=True)
    notes = json.dumps({"domain": domain, "certUrl": "https://ca.test/1"})
    for ending, text in (
        (".crt", pem(leaf)), (".issuer.crt", chain_pem()), (".json", notes), (".key", KEY),
    ):  # fmt: skip
        (folder / f"{domain}{ending}").write_text(text)


def dehydrated(root: Path, alias: str, leaf: bytes) -> None:
    folder = root / "certs" / alias
    for part, text in (
        ("cert", pem(leaf)), ("chain", chain_pem()), ("fullchain", full_pem(leaf)),
        ("privkey", KEY),
    ):  # fmt: skip
        put(folder, **{f"{part}-1764000000__pem": text})
        (folder / f"{part}.pem").symlink_to(f"{part}-1764000000.pem")


def caddy(root: Path, domain: str, leaf: bytes) -> None:
    folder = root / "certificates" / "acme-v02.api.example-directory" / domain
    folder.mkdir(parents=True)
    notes = json.dumps({"sans": [domain], "issuer_data": {}})
    for ending, text in ((".crt", full_pem(leaf)), (".json", notes), (".key", KEY)):
        (folder / f"{domain}{ending}").write_text(text)


TOOLS = {
    "certbot": (certbot, "www"),
    "acme.sh": (acme_sh, None),
    "lego": (lego, None),
    "dehydrated": (dehydrated, "www"),
    "caddy": (caddy, None),
}


@pytest.mark.parametrize("tool", sorted(TOOLS))
@pytest.mark.parametrize("told", [True, False])
def test_each_tools_directory_is_read_as_the_tool_means_it(tmp_path, tool, told):
    make, name = TOOLS[tool]
    leaf = a_leaf("www.example.test")
    make(tmp_path / "deep" / tool, name or "www.example.test", leaf)
    harvest = find([tmp_path], Format(tool) if told else Format.AUTO)
    assert harvest.refused == []
    (found,) = harvest.found
    assert (found.source, found.name) == (tool, name)
    assert ders_of_pem(found.pem) == [leaf, *chain()]


def test_one_tool_is_asked_for_and_the_others_are_left_alone(tmp_path):
    certbot(tmp_path / "a", "www", a_leaf("a.example.test"))
    caddy(tmp_path / "b", "b.example.test", a_leaf("b.example.test"))
    put(tmp_path, plain__pem=full_pem(a_leaf("c.example.test")))
    found = find([tmp_path], Format.CADDY).found
    assert [one.source for one in found] == ["caddy"]
    assert {one.source for one in find([tmp_path]).found} == {"certbot", "caddy", "pem"}


def test_both_keys_of_acme_sh_are_told_apart(tmp_path):
    acme_sh(tmp_path, "a.example.test", a_leaf("a.example.test"))
    acme_sh(tmp_path, "a.example.test", a_leaf("a.example.test", key=2), suffix="_ecc")
    names = {one.name for one in find([tmp_path]).found}
    assert names == {None, "a.example.test_ecc"}


def test_plain_files_are_split_into_certificates_and_found_once(tmp_path):
    first, second = a_leaf("a.example.test"), a_leaf("b.example.test")
    put(tmp_path / "x", both__crt=full_pem(first) + pem(second), again__pem=pem(first))
    put(
        tmp_path / "y", chain__pem=chain_pem(), dh__pem="-----BEGIN DH PARAMETERS-----\n", t__txt=""
    )
    (tmp_path / "x" / "binary.cer").write_bytes(a_leaf("c.example.test"))
    harvest = find([tmp_path])
    assert harvest.refused == []
    leaves = [ders_of_pem(one.pem)[0] for one in harvest.found]
    assert len(leaves) == 3
    assert {first, second} < set(leaves)


def test_a_key_beside_a_certificate_in_one_file_is_left_out(tmp_path):
    put(tmp_path, haproxy__pem=full_pem(a_leaf("a.example.test")) + KEY)
    (found,) = find([tmp_path]).found
    assert "PRIVATE KEY" not in found.pem


def test_key_files_are_not_even_opened(tmp_path):
    """Pipes under their names would hang a reader, and links to them are seen through."""
    certbot(tmp_path, "www", a_leaf("a.example.test"))
    for name in ("privkey.pem", "site.key", "site-key.pem"):
        put(tmp_path / "plain", **{name: full_pem(a_leaf("b.example.test"))})
    (tmp_path / "plain" / "innocent.pem").symlink_to("site.key")
    assert [one.source for one in find([tmp_path]).found] == ["certbot"]


def test_links_that_lead_out_are_not_followed(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    put(outside, a__pem=full_pem(a_leaf("a.example.test")))
    inside.mkdir()
    (inside / "link.pem").symlink_to(outside / "a.pem")
    (inside / "folder").symlink_to(outside)
    (inside / "circle.pem").symlink_to("circle.pem")
    harvest = find([inside])
    assert (harvest.found, harvest.refused) == ([], [])
    assert [path.name for path in harvest.outside] == ["link.pem"]


def test_links_that_were_not_followed_are_told(server, run, tmp_path):
    certbot(tmp_path / "etc", "www", a_leaf("a.example.test"))
    done = run(tmp_path / "etc" / "live")
    assert done.exit_code == 3
    assert "3 links lead out of the directory given" in done.stderr
    assert server.seen == []


def test_a_link_that_the_operator_names_is_followed(tmp_path):
    leaf = a_leaf("a.example.test")
    certbot(tmp_path, "www", leaf)
    (found,) = find([tmp_path / "live" / "www" / "fullchain.pem"]).found
    assert ders_of_pem(found.pem) == [leaf, *chain()]


def test_a_store_of_cas_is_passed_over(tmp_path):
    put(tmp_path, cas__pem=chain_pem() + pem(a_root().der))
    harvest = find([tmp_path])
    assert (harvest.found, harvest.refused) == ([], [])


def test_what_is_too_large_too_deep_or_no_file_is_told_or_passed_over(tmp_path):
    put(tmp_path, large__pem=full_pem(a_leaf("a.example.test")) + "\n" * (1 << 20))
    os.mkfifo(tmp_path / "pipe.pem")
    put(tmp_path.joinpath(*"abcdefghijklmn"), deep__pem="")
    words = sorted(words for _, words in find([tmp_path]).refused)
    assert words == ["is larger than 1 MiB", "lies more than 12 directories deep"]


def test_a_path_that_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFound):
        find([tmp_path / "none"])


def test_lots_are_of_a_hundred_and_of_no_more_than_the_server_takes():
    small = [Found(Path("p"), "x", "pem")] * 250
    assert [len(lot) for lot in command.batches(small)] == [100, 100, 50]
    large = [Found(Path("p"), "x" * 250_000, "pem")] * 5
    assert [len(lot) for lot in command.batches(large)] == [2, 2, 1]


def imported(index: int, **changes) -> dict:
    row = {"index": index, "name": "www", "certificate_id": "mc-1", "outcome": "imported"}
    return {**row, "error": None, **changes}


def test_what_is_found_is_sent_and_told_as_a_table(server, run, tmp_path):
    certbot(tmp_path, "www", a_leaf("a.example.test"))
    server.says("POST", "certificates/import", {"data": [imported(0)]})
    done = run(tmp_path, "--watched", "--environment", "legacy", "--team", "t-1")
    assert done.exit_code == 0, done.output
    heads, row = done.stdout.splitlines()
    assert heads.split() == ["PATH", "NAME", "OUTCOME", "CERTIFICATE", "ID", "ERROR"]
    assert row.split()[1:] == ["www", "imported", "mc-1", "–"]
    assert done.stderr == "1 imported, 0 updated, 0 unchanged, 0 failed\n"
    (seen,) = server.seen
    (sent,) = seen.body.pop("certificates")
    assert (sent["source"], sent["name"]) == ("certbot", "www")
    assert "PRIVATE" not in sent["pem"]
    assert seen.body == {
        "watched": True, "owner_id": "o-default", "team_id": "t-1", "renewal_policy_id": None,
        "issuer_id": None, "certificate_profile_id": None, "environment": "legacy",
        "name_template": "{cn}", "dry_run": False,
    }  # fmt: skip


def test_a_template_goes_before_the_names_of_the_tool(server, run, tmp_path):
    certbot(tmp_path, "www", a_leaf("a.example.test"))
    server.says("POST", "certificates/import", {"data": [imported(0)]})
    assert run(tmp_path, "--name-template", "old-{cn}").exit_code == 0
    body = server.seen[0].body
    assert (body["name_template"], body["certificates"][0]["name"]) == ("old-{cn}", None)
    assert body["renewal_policy_id"] == "rp-default"


def test_failures_of_either_side_are_rows_and_end_with_one(server, run, tmp_path):
    put(tmp_path / "etc", a__pem=full_pem(a_leaf("a.example.test")))
    put(tmp_path / "etc", b__pem="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    refused = imported(0, certificate_id=None, outcome="failed", error="no")
    server.says("POST", "certificates/import", {"data": [refused]})
    done = run(tmp_path / "etc", "-o", "json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (told["total"], told["total_failed"]) == (2, 2)
    assert [(Path(row["path"]).name, row["index"], row["error"]) for row in told["data"]] == [
        ("a.pem", 0, "no"),
        ("b.pem", 1, "a PEM block does not hold a certificate"),
    ]


def test_what_the_server_says_of_all_is_one_sentence(server, run, tmp_path):
    put(tmp_path / "etc", a__pem=full_pem(a_leaf("a.example.test")))
    answer: Answer = problem(400, "invalid", "owner_id: none", field="owner_id")
    server.says("POST", "certificates/import", answer)
    done = run(tmp_path / "etc")
    assert (done.exit_code, done.stderr) == (1, "certctl: owner_id: none\n")


def test_nothing_found_and_an_unknown_format_have_a_status_of_their_own(server, run, tmp_path):
    (tmp_path / "etc").mkdir()
    assert run(tmp_path / "etc").exit_code == 3
    assert run(tmp_path / "etc", "--format", "gopher").exit_code == 2
    assert server.seen == []
