"""Where the CLI finds the server, and what it does with a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from certctl.cli.settings import Access, Flags, find
from certctl.domain.errors import Unsafe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "kept.key").write_text("kept-key\n")
    (tmp_path / "flag.key").write_text("flag-key\n")
    (tmp_path / "client.toml").write_text(
        'server_url = "https://kept.test:8443"\n'
        f'ca_file = "{tmp_path}/kept.pem"\nkey_file = "{tmp_path}/kept.key"\n'
    )
    return tmp_path


def env(data: Path, **more: str) -> dict[str, str]:
    return {"CERTCTL_DATA_DIR": str(data), **more}


def test_without_anything_the_server_is_localhost_and_there_is_no_key(tmp_path):
    assert find(Flags(), env(tmp_path)) == Access("https://localhost:8443", None, None)


def test_client_toml_gives_all_three(data):
    assert find(Flags(), env(data)) == Access(
        "https://kept.test:8443", data / "kept.pem", "kept-key"
    )


def test_the_environment_wins_over_client_toml(data):
    given = env(
        data,
        CERTCTL_SERVER_URL="https://env.test/",
        CERTCTL_API_KEY="env-key",
        CERTCTL_SERVER_CA_BUNDLE_PATH="/env.pem",
    )
    assert find(Flags(), given) == Access("https://env.test", Path("/env.pem"), "env-key")


def test_a_flag_wins_over_the_environment(data):
    flags = Flags("https://flag.test:1", Path("/flag.pem"), data / "flag.key")
    given = env(
        data,
        CERTCTL_SERVER_URL="https://env.test",
        CERTCTL_API_KEY="env-key",
        CERTCTL_SERVER_CA_BUNDLE_PATH="/env.pem",
    )
    assert find(flags, given) == Access("https://flag.test:1", Path("/flag.pem"), "flag-key")


def test_an_empty_variable_counts_as_absent(data):
    assert find(Flags(), env(data, CERTCTL_SERVER_URL="", CERTCTL_API_KEY="")) == find(
        Flags(), env(data)
    )


def test_the_kept_key_goes_to_another_address_that_the_kept_ca_vouches_for(data):
    assert find(Flags("https://localhost:8443"), env(data)).api_key == "kept-key"


def test_the_kept_key_does_not_go_to_a_server_of_another_ca(data):
    flags = Flags("https://other.test", Path("/other.pem"))
    assert find(flags, env(data)).api_key is None


def test_the_key_is_not_shown_by_repr(data):
    assert "kept-key" not in repr(find(Flags(), env(data)))


@pytest.mark.parametrize(
    "url",
    [
        "http://plain.test",
        "https://",
        "https://host:99999",
        "https://host:0",
        "ftp://host",
        "host:8443",
        "https://user:word@host",
        "https://host?x=1",
    ],
)
def test_only_an_https_address_is_accepted_and_the_setting_is_named(tmp_path, url):
    with pytest.raises(Unsafe, match=r"^CERTCTL_SERVER_URL: "):
        find(Flags(), env(tmp_path, CERTCTL_SERVER_URL=url))
    with pytest.raises(Unsafe, match=r"^--server: "):
        find(Flags(server=url), env(tmp_path))


def test_a_key_file_that_is_missing_is_named(data):
    with pytest.raises(Unsafe, match=r"--api-key-file: .*gone\.key cannot be read \(No such file"):
        find(Flags(api_key_file=data / "gone.key"), env(data))


def test_a_key_file_of_several_lines_is_refused(data):
    (data / "kept.key").write_text("one\ntwo\n")
    with pytest.raises(Unsafe, match=r"key_file in client\.toml: .* does not hold an API key"):
        find(Flags(), env(data))


def test_a_client_toml_that_does_not_parse_is_named(data):
    (data / "client.toml").write_text("server_url = ")
    with pytest.raises(Unsafe, match=r"client\.toml cannot be read"):
        find(Flags(), env(data))
