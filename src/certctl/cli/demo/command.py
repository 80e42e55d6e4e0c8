"""The `demo` command's options; the demonstration itself is loaded only when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the last step instead of staying up.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything is kept. [CERTCTL_DATA_DIR]"),
    ] = None,
) -> None:
    """Show a certificate's whole life on this machine.

    \b
    certctl demo                                 and stay up; Ctrl-C stops what it started
    certctl demo --once                          end after the last step; status 0 if all went well
    certctl demo --data-dir /tmp/try             keep everything there
    CERTCTL_DEMO_TLS_PORT=10443 certctl demo     serve on another port than 9443

    Starts the control plane, an agent and an NGINX of its own on loopback ports; orders, renews
    and revokes a certificate, and proves each step over TLS and OCSP. [CERTCTL_DEMO_NGINX: path of
    the nginx program, or none for the small TLS server]
    """
    from certctl.cli.demo.run import run

    raise typer.Exit(run(once=once, data_dir=data_dir))
