"""The `certctl` command: the API client's commands, and the processes beside them."""

from __future__ import annotations


def main() -> None:
    from certctl.boot import commands
    from certctl.cli.main import app

    commands.add_to(app)
    app()


if __name__ == "__main__":
    main()
