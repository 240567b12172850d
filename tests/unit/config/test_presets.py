"""Upstream addresses and key headers, each against what the provider documents; a secret is read where it is needed and rotates."""

from pathlib import Path

import pytest

from headway.calls.conversation import DialectName
from headway.config.init import starter
from headway.config.load import parse
from headway.config.model import Provider
from headway.config.presets import DIALECTS, PRESETS, base_urls, dialects_of, endpoint_url, key_headers, price_provider
from headway.config.secrets import Secrets, is_reference, looks_secret
from headway.kernel.errors import ConfigError

CHAT = "/v1/chat/completions"


def test_dialects_are_those_of_the_calls_room() -> None:
    assert set(DIALECTS) == {name.value for name in DialectName}
    assert all(set(preset.dialects) <= set(DIALECTS) for preset in PRESETS.values())


@pytest.mark.parametrize(
    ("provider", "path", "url"),
    [
        (Provider(preset="openai"), CHAT, "https://api.openai.com/v1/chat/completions"),
        (Provider(preset="openai", base_url="http://h:1"), CHAT, "http://h:1/v1/chat/completions"),
        (Provider(preset="openai", base_url="http://h:1/v1/"), CHAT, "http://h:1/v1/chat/completions"),
        (Provider(preset="openai", base_url="http://h:1/api/paas/v4"), CHAT, "http://h:1/api/paas/v4/chat/completions"),
        (Provider(preset="openai", base_url="http://h:1/proxy"), CHAT, "http://h:1/proxy/v1/chat/completions"),
        (Provider(preset="anthropic"), "/v1/messages", "https://api.anthropic.com/v1/messages"),
        (Provider(preset="anthropic"), "/v1/messages/count_tokens", "https://api.anthropic.com/v1/messages/count_tokens"),
        (Provider(preset="openrouter"), CHAT, "https://openrouter.ai/api/v1/chat/completions"),
        (Provider(preset="mistral"), "/v1/embeddings", "https://api.mistral.ai/v1/embeddings"),
        (Provider(preset="gemini"), CHAT, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        (Provider(preset="gemini", base_url="https://g/v1beta"), CHAT, "https://g/v1beta/openai/chat/completions"),
        (Provider(preset="bedrock", region="us-west-2"), CHAT, "https://bedrock-mantle.us-west-2.api.aws/v1/chat/completions"),
        (Provider(preset="ollama"), "/v1/models", "http://127.0.0.1:11434/v1/models"),
        (Provider(preset="vllm"), "/v1/responses", "http://127.0.0.1:8000/v1/responses"),
        (
            Provider(preset="azure", base_url="https://r.openai.azure.com"),
            CHAT,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            Provider(preset="azure", base_url="https://r.openai.azure.com/openai"),
            CHAT,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            Provider(preset="azure", base_url="https://r.openai.azure.com/openai/v1/"),
            CHAT,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            Provider(preset="azure", base_url="https://r.openai.azure.com/openai", api_version="2024-10-21"),
            CHAT,
            "https://r.openai.azure.com/openai/deployments/d%2Fe%3F/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_addresses(provider: Provider, path: str, url: str) -> None:
    assert endpoint_url(provider, path, model="d/e?") == url


def test_replicas_are_addressed_one_by_one() -> None:
    provider = Provider(preset="vllm", base_urls=("http://a:1/", "http://b:2/v1"))
    assert base_urls(provider) == ("http://a:1", "http://b:2/v1")
    assert [endpoint_url(provider, CHAT, base_url=base) for base in base_urls(provider)] == [
        "http://a:1/v1/chat/completions",
        "http://b:2/v1/chat/completions",
    ]


def test_key_headers_by_provider() -> None:
    assert key_headers(Provider(preset="openai", organization="o"), "k") == (
        ("authorization", "Bearer k"),
        ("openai-organization", "o"),
    )
    assert key_headers(Provider(preset="anthropic"), "k") == (("x-api-key", "k"), ("anthropic-version", "2023-06-01"))
    assert key_headers(Provider(preset="azure"), "k") == (("api-key", "k"),)
    assert key_headers(Provider(preset="llama.cpp"), "") == ()


def test_what_is_configured_wins_over_the_preset() -> None:
    assert dialects_of(Provider(preset="vllm", dialect="anthropic")) == ("anthropic",)
    assert price_provider(Provider(preset="openai", price_as="azure")) == "azure"
    assert price_provider(Provider(preset="ollama")) == "free"
    with pytest.raises(ConfigError, match="set base_url"):
        base_urls(Provider(preset="azure"))


def test_a_first_file_is_eight_lines_and_loads_with_no_problem() -> None:
    text = starter({})
    assert len(text.splitlines()) == 8
    assert parse(text).warnings == ()
    assert parse(text).settings.features["chat"].targets == ("openai/gpt-5-mini",)


def test_secrets_come_from_the_environment() -> None:
    secrets = Secrets({"K": " v \n", "E": ""})
    assert secrets.resolve("env:K") == "v"
    assert secrets.resolve("") == ""
    assert secrets.resolve_or_literal("plain") == "plain"
    assert secrets.resolve_or_literal("env:K") == "v"
    for reference in ("env:ABSENT", "env:E"):
        with pytest.raises(ConfigError, match=f"{reference} is not set"):
            secrets.resolve(reference)
    with pytest.raises(ConfigError) as caught:
        secrets.resolve("sk-abcdefghijklmnop")
    assert "abcdef" not in str(caught.value)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secrets = Secrets({})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        secrets.resolve(f"file:{path}")
    path.write_text("one\n")
    assert secrets.resolve(f"file:{path}") == "one"
    path.write_text("other\n")
    assert secrets.resolve(f"file:{path}") == "other"
    path.write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        secrets.resolve(f"file:{path}")
    path.write_text("x" * 20_000)
    with pytest.raises(ConfigError, match="is too large"):
        secrets.resolve(f"file:{path}")


def test_a_secret_with_a_line_break_inside_cannot_become_a_header() -> None:
    with pytest.raises(ConfigError, match="control or non-ASCII"):
        Secrets({"K": "a\r\nx-evil: 1"}).resolve("env:K")


def test_what_looks_like_a_key() -> None:
    assert looks_secret("sk-proj-aaaaaaaaaaaa")
    assert looks_secret("0123456789abcdef0123456789abcdef")
    assert not looks_secret("env:OPENAI_API_KEY")
    assert not looks_secret("meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert is_reference("file:/run/secrets/x")
    assert not is_reference("env:A B")
