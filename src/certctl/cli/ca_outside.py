"""`certctl ca import`, `csr`, `install`, `sign` and `revoke`: CAs, and others outside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.ca import CaId, IssuerFlag
from certctl.cli.options import api, output, say, show
from certctl.cli.render import Output

LARGEST: Final = 65536
ChainFlag = Annotated[
    typer.FileText | None,
    typer.Option("--chain", metavar="FILE", help="The CAs above it, up to the root; PEM."),
]
CertificateFile = Annotated[
    typer.FileText,
    typer.Argument(metavar="FILE", help="Its certificate, PEM; the chain may stand after it."),
]


def import_(
    ctx: typer.Context,
    certificate: CertificateFile,
    key: Annotated[
        typer.FileText, typer.Option(metavar="FILE", help="Its private key, PEM; - for stdin.")
    ],
    chain: ChainFlag = None,
    issuer: IssuerFlag = "iss-local",
    name: Annotated[str | None, typer.Option(help="Default: its common name.")] = None,
    passphrase_file: Annotated[
        typer.FileText | None,
        typer.Option(metavar="FILE", help="First line: the passphrase; else asked if needed."),
    ] = None,
) -> None:
    """Take over a CA that an enterprise root has signed, with its key."""
    key_pem = key.read(LARGEST)
    body: dict[str, Any] = {
        "name": name,
        "certificate_pem": certificate.read(LARGEST),
        "chain_pem": chain.read(LARGEST) if chain else "",
        "key_pem": key_pem,
        "passphrase": _passphrase(key_pem, passphrase_file),
    }
    with api(ctx) as server:
        found = find.id_of(server, "issuers", issuer)
        answer = server.post("issuers", found, "intermediates", "import", body=body)
    say(ctx, answer, f"CA {answer['id']} is {answer['state']} until {answer['not_after']}")


def _passphrase(key_pem: str, file: typer.FileText | None) -> str:
    if file is not None:
        return file.readline().rstrip("\r\n")
    if "ENCRYPTED" not in key_pem:
        return ""
    text: str = typer.prompt("Passphrase of the key", hide_input=True, err=True)
    return text


def csr(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its common name, or the id of one that waits.")],
    issuer: IssuerFlag = "iss-local",
    algorithm: Annotated[str, typer.Option(help="ECDSA-P256, ECDSA-P384, RSA-3072, …")] = (
        "ECDSA-P256"
    ),
    path_length: Annotated[
        int, typer.Option(help="How many CAs are to stand in a row below it.")
    ] = 0,
) -> None:
    """Make a CA's key here and print the CSR that a root outside is to sign."""
    body = {"name": name, "algorithm": algorithm, "path_len_constraint": path_length}
    with api(ctx) as server:
        if name.startswith("ica-"):
            answer = server.get("intermediates", name, "csr")
        else:
            found = find.id_of(server, "issuers", issuer)
            answer = server.post("issuers", found, "intermediates", "csr", body=body)
    if output(ctx) is Output.TABLE:
        sys.stderr.write(f"CA {answer['id']} waits for its certificate\n")
        sys.stdout.write(answer["csr_pem"])
    else:
        show(ctx, answer)


def install(
    ctx: typer.Context, ca_id: CaId, certificate: CertificateFile, chain: ChainFlag = None
) -> None:
    """Bring back what the root outside has signed; the CA signs from now on."""
    body = {
        "certificate_pem": certificate.read(LARGEST),
        "chain_pem": chain.read(LARGEST) if chain else "",
    }
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "install", body=body)
    say(ctx, answer, f"CA {answer['id']} is {answer['state']} until {answer['not_after']}")


def sign(
    ctx: typer.Context,
    ca_id: CaId,
    csr: Annotated[typer.FileText, typer.Argument(metavar="FILE", help="The CSR, PEM.")],
    name: Annotated[str | None, typer.Option(help="Default: the CSR's common name.")] = None,
    days: Annotated[int | None, typer.Option(help="Its life, at most that of the CA.")] = None,
    path_length: Annotated[int, typer.Option(help="How many CAs may stand in a row below it.")] = 0,
    permit: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this; may repeat.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Never this; may repeat.")
    ] = None,
) -> None:
    """Certify an outside CA below one of ours and print the chain, its certificate first."""
    body: dict[str, Any] = {
        "name": name,
        "csr_pem": csr.read(LARGEST),
        "path_len_constraint": path_length,
        "ttl_days": days,
    }
    if permit or exclude:
        body["name_constraints"] = [{"permitted": permit or [], "excluded": exclude or []}]
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "sign", body=body)
    if output(ctx) is Output.TABLE:
        sys.stderr.write(f"CA {answer['id']} is {answer['state']}\n")
        sys.stdout.write(answer["chain_pem"])
    else:
        show(ctx, answer)


def revoke(
    ctx: typer.Context,
    ca_id: CaId,
    reason: Annotated[str, typer.Option(help="keyCompromise, superseded, …")] = "unspecified",
    force: Annotated[
        bool, typer.Option("--force", help="Even if it signs leaves or has active CAs below it.")
    ] = False,
    note: Annotated[str, typer.Option(metavar="WORDS", help="For the audit trail.")] = "",
) -> None:
    """Revoke a CA's certificate: it, and all below it, sign nothing new."""
    body = {"reason": reason, "force": force, "note": note}
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "revoke", body=body)
    say(ctx, answer, f"CA {ca_id} is revoked")


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "import": import_,
    "csr": csr,
    "install": install,
    "sign": sign,
    "revoke": revoke,
}
