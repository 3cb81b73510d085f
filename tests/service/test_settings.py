"""Settings: read from the environment, and refused in one line that names the variable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from agent_service.errors import SettingsError
from agent_service.settings import Settings, load_settings, settings_table

OPEN = {"AUTH": "disabled"}
SIGN_IN = {"OIDC_ISSUER": "https://login.example", "OIDC_CLIENT_ID": "slipway", "PUBLIC_URL": "https://chat.example"}


def words_of(annotation: object) -> Iterator[str]:
    for each in (annotation, *get_args(annotation)):
        if get_origin(each) is Literal:
            yield from get_args(each)


def test_defaults_need_only_a_choice_of_authentication() -> None:
    settings = load_settings(OPEN)
    assert (settings.host, settings.port, settings.ops_port, settings.model) == ("127.0.0.1", 8000, 9090, "offline")
    assert settings.ops_address == "127.0.0.1"


WORDS = [(name, word) for name, field in Settings.model_fields.items() for word in words_of(field.annotation)]


def test_every_choice_among_words_is_read_in_any_letter_case() -> None:
    secure = {"JWT_SECRET": "x" * 32, **{n.upper(): "" for n in Settings.model_fields if n != "jwt_secret"}}
    assert len(WORDS) > 30
    for name, word in WORDS:
        for written in (word.upper(), word.title(), f" {word.upper()} "):
            assert getattr(load_settings({**secure, name.upper(): written}), name) == word


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("MODEL", "Offline", "offline"),
        ("CHEAP_MODEL", "OFFLINE", "offline"),
        ("MODEL", "Qwen/Qwen3", "Qwen/Qwen3"),  # a model's own name may differ by case alone
        ("HOST", "LocalHost", "LocalHost"),
        ("CORS_ORIGINS", "HTTPS://Chat.Example.com", "https://chat.example.com"),
        ("ALLOWED_HOSTS", "Chat.Example.com", "chat.example.com"),
        ("ACCEPT_IMAGES", "TRUE", True),
        ("OPENAI_BASE_URL", "HTTP://Host/V1", "HTTP://Host/V1"),
    ],
)
def test_letter_case_has_no_meaning_where_it_has_none(name: str, written: str, read: object) -> None:
    found = load_settings({**OPEN, "OPENAI_API_KEY": "k", name: written})
    assert getattr(found, name.lower()) == read


def test_the_scheme_of_a_database_is_known_in_any_letter_case_and_nothing_else_of_it_is_changed() -> None:
    found = load_settings({**OPEN, "DATABASE_URL": "PostgreSQL://Me:PassWord@Host/Name"}).database_url.get_secret_value()
    assert found == "postgresql://Me:PassWord@Host/Name"
    keywords = "host=h password=Ab://Cd"
    assert load_settings({**OPEN, "DATABASE_URL": keywords}).database_url.get_secret_value() == keywords


def test_an_empty_variable_counts_as_unset_and_other_variables_do_not_matter() -> None:
    assert load_settings({**OPEN, "PORT": "", "PATH": "/bin", "HOME": "/root"}).port == 8000


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "AUTH=required needs"),
        ({"AUTH": "disabled", "HOST": "0.0.0.0"}, "AUTH_DISABLED_ON_ANY_ADDRESS"),
        ({"AUTH": "disabled", "HOST": "example.org"}, "AUTH_DISABLED_ON_ANY_ADDRESS"),
        ({"JWT_SECRET": "x" * 31}, "JWT_SECRET"),
        ({**OPEN, **SIGN_IN}, "OIDC_ISSUER: nobody signs in with AUTH=disabled"),
        ({**SIGN_IN, "OIDC_CLIENT_ID": ""}, "OIDC_CLIENT_ID: expected"),
        ({**SIGN_IN, "PUBLIC_URL": ""}, "PUBLIC_URL: expected"),
        ({**SIGN_IN, "PUBLIC_URL": "http://chat.example"}, "PUBLIC_URL: expected https://"),
        ({**SIGN_IN, "OIDC_ISSUER": "http://login.example"}, "OIDC_ISSUER: expected https://"),
        ({**SIGN_IN, "OIDC_ISSUER": "login.example"}, "OIDC_ISSUER: expected a URL"),
        ({**SIGN_IN, "OIDC_ISSUER": "https://login.example/?a=b"}, "OIDC_ISSUER: expected a URL without a query"),
        ({**SIGN_IN, "OIDC_SCOPES": "profile"}, "OIDC_SCOPES: expected `openid`"),
        ({**OPEN, "OIDC_CLIENT_ID": "slipway"}, "OIDC_CLIENT_ID is set without OIDC_ISSUER"),
        ({**OPEN, "MODEL": "gpt-4o"}, "OPENAI_KEY_DIR"),
        ({**OPEN, "OPENAI_API_KEY": "k", "OPENAI_KEY_DIR": "/keys"}, "not both"),
        ({**OPEN, "DATABASE_URL": "mysql://u:p@h/d"}, "DATABASE_URL: expected a libpq URI"),
        ({**OPEN, "OPENAI_BASE_URL": "localhost:1234/v1"}, "OPENAI_BASE_URL: expected a URL"),
        (
            {**OPEN, "OPENAI_BASE_URL": "https://r.openai.azure.com/openai?api-version=1"},
            "OPENAI_BASE_URL: expected a URL without",
        ),
        ({**OPEN, "JWT_JWKS_URL": "file:///keys"}, "JWT_JWKS_URL: expected a URL"),
        ({**OPEN, "LEASE_SECONDS": "0.4"}, "LEASE_SECONDS"),
        ({**OPEN, "PORT": "9090"}, "OPS_PORT=9090: PORT is the same"),
        ({**OPEN, "LANGSMITH_TRACING": "true"}, "LANGSMITH_API_KEY"),
        ({**OPEN, "PAGE_LOGO": "logo.gif"}, "PAGE_LOGO: expected a file that ends in .svg, .png, .webp"),
        ({**OPEN, "PAGE_LOGO": "no-such.svg"}, "PAGE_LOGO: expected a file, and there is none"),
        ({**OPEN, "PAGE_EXAMPLES": '["What?"]'}, "PAGE_EXAMPLES"),
        ({**OPEN, "AGENT_GRAFH": "x:y"}, "AGENT_GRAFH: unknown setting"),
        ({**OPEN, "AGENT_GRAPH": "no colon"}, "AGENT_GRAPH"),
        ({**OPEN, "PORT": "65536"}, "PORT=65536: expected less than or equal to 65535"),
        ({**OPEN, "PORT": "http"}, "PORT=http: expected a valid integer"),
        ({**OPEN, "MAX_TURN_SECONDS": "0"}, "MAX_TURN_SECONDS"),
        ({**OPEN, "MAX_CONCURRENT_RUNS": "0"}, "MAX_CONCURRENT_RUNS"),
        ({**OPEN, "LOG_LEVEL": "loud"}, "LOG_LEVEL=loud: expected 'debug', 'info', 'warning' or 'error'"),
        ({**OPEN, "DATA_SCHEMAS": "a;drop"}, "DATA_SCHEMAS"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_that_names_it(env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(env)
    assert named in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_logo_is_of_a_size_that_every_reader_can_load(tmp_path: Path) -> None:
    logo = tmp_path / "logo.PNG"
    logo.write_bytes(b"x" * 200_000)
    assert load_settings({**OPEN, "PAGE_LOGO": str(logo)}).page_logo == logo
    logo.write_bytes(b"x" * 200_001)
    with pytest.raises(SettingsError, match="PAGE_LOGO: expected at most 200000 bytes"):
        load_settings({**OPEN, "PAGE_LOGO": str(logo)})


def test_a_refusal_does_not_quote_a_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"JWT_SECRET": "hunter2", "OPENAI_API_KEY": "sk-hunter2"})
    assert "hunter2" not in str(caught.value)


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    env = {"JWT_SECRET": "s" * 32, "OPENAI_API_KEY": "sk-hidden", "DATABASE_URL": "postgresql://u:pass@h/d"}
    shown = repr(load_settings(env))
    assert "s" * 32 not in shown
    assert "hidden" not in shown
    assert "pass@" not in shown


def test_settings_cannot_change_under_the_process() -> None:
    settings = load_settings(OPEN)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # the point


def test_a_second_switch_opens_any_address() -> None:
    assert load_settings({**OPEN, "HOST": "0.0.0.0", "AUTH_DISABLED_ON_ANY_ADDRESS": "true"}).host == "0.0.0.0"


def test_every_setting_has_a_description_and_stands_in_the_table() -> None:
    table = settings_table()
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert f"  {name.upper()}  [" in table
