"""`certctl agent` that dies at the step of its work named in KILL_AT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from certctl.agent.keystore import KeyStore
from certctl.agent.link import Link
from certctl.agent.run import main
from certctl.connectors.files import disk, engine, journal
from certctl.connectors.targets.nginx import Nginx
from tests.flows.killed import Step


def _is_certificate(_staged: Path, target: Path) -> bool:
    return Path(target).name == "site.pem"


STEPS: dict[str, Step] = {
    "before the key is made": Step(KeyStore, "key_for", before=True),
    "after the key is made": Step(KeyStore, "key_for"),
    "after the CSR is sent": Step(Link, "submit_csr"),
    "before the deployment": Step(Nginx, "deploy", before=True),
    "after the files are staged": Step(engine, "_prepare"),
    "between the two renames": Step(Path, "replace", only=_is_certificate),
    "after the swap": Step(disk, "sync_folders"),
    "before the new certificate is verified": Step(Nginx, "_verify", before=True),
    "after it is verified": Step(Nginx, "_verify"),
    "after the journal is gone": Step(journal, "remove"),
    "before the key is promoted": Step(KeyStore, "promote", before=True),
    "before the report": Step(Link, "report", before=True),
    "after the report": Step(Link, "report"),
}

if __name__ == "__main__":
    STEPS[os.environ["KILL_AT"]].arm()
    sys.exit(main(os.environ))
