"""A configuration is wholly right or wholly explained: every mistake, its line, the nearest right word, and never a secret."""

from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

from headway.config import model
from headway.config.decode import tables
from headway.config.init import Found
from headway.config.load import find, load, parse, whereabouts
from headway.config.model import Provider, Settings
from headway.config.problems import ConfigProblems, OriginKind
from headway.config.rules import RANGES
from headway.kernel.errors import ConfigError

GOOD = """\
[gateway]
listen = "0.0.0.0:8080"
[providers.openai]
key = "env:OPENAI_API_KEY"
[providers.local]
preset = "llama.cpp"
base_url = "http://127.0.0.1:9300"
models = ["smollm2", "anthropic/claude-haiku-4-5-20251001"]
headers = { x-team = "search" }
[providers.local.timeouts]
first_byte_ms = 30_000
[features.support-chat]
targets = ["openai/gpt-5-mini", "local/smollm2"]
record = { text = true, keep_days = 3, redact = ["email"] }
[tenants.search]
weight = 2
class = "batch"
budget_usd_per_month = 400
budget_usd_per_day = "0.25"
features = ["support-chat"]
"""

SECRET = "sk-proj-AAAABBBBCCCCDDDDEEEE1234567890"


def problems(text: str, **kwargs: object) -> list[str]:
    with pytest.raises(ConfigProblems) as caught:
        parse(text, **kwargs)  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


def test_a_good_file_becomes_settings() -> None:
    loaded = parse(GOOD)
    settings = loaded.settings
    assert settings.gateway.listen == "0.0.0.0:8080"
    assert settings.providers["local"].timeouts.first_byte_ms == 30_000
    assert settings.providers["local"].headers == {"x-team": "search"}
    assert settings.features["support-chat"].record == model.Record(text=True, keep_days=3, redact=("email",))
    search = settings.tenants["search"]
    assert (search.klass, search.weight, search.budget_usd_per_day) == ("batch", 2.0, "0.25")
    assert loaded.warnings == ()


def test_every_value_has_an_origin() -> None:
    loaded = parse(GOOD, env={"HEADWAY_CONTROL_LISTEN": "127.0.0.1:9999"})
    assert str(loaded.origins["gateway.listen"]) == "headway.toml:2"
    assert str(loaded.origins["features.support-chat.record.keep_days"]) == "headway.toml:14"
    assert str(loaded.origins["tenants.search.class"]) == "headway.toml:17"
    assert str(loaded.origins["control.listen"]) == "HEADWAY_CONTROL_LISTEN"
    assert loaded.origins["gateway.drain_s"].kind is OriginKind.DEFAULT
    assert loaded.settings.control.listen == "127.0.0.1:9999"


def test_a_store_from_the_environment_stays_a_reference() -> None:
    loaded = parse("", env={"HEADWAY_CONTROL_STORE": "postgresql://u:" + SECRET + "@h/d"})
    assert loaded.settings.control.store == "env:HEADWAY_CONTROL_STORE"


def test_a_mistyped_variable_is_warned_of() -> None:
    assert parse("", env={"HEADWAY_GATEWAY_LISTN": "x"}).warnings == (
        'HEADWAY_GATEWAY_LISTN overrides nothing; did you mean "HEADWAY_GATEWAY_LISTEN"?',
    )


def test_a_wrong_variable_is_named_and_not_the_file() -> None:
    assert problems("", env={"HEADWAY_GATEWAY_LISTEN": "8080"}) == [
        'HEADWAY_GATEWAY_LISTEN: gateway.listen "8080" is not host:port, e.g. 127.0.0.1:8080',
    ]


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    found = problems(
        GOOD.replace("weight", "wait")
        .replace("listen =", "lisen =")
        .replace("keep_days", "keepdays")
        .replace('"local/smollm2"', '\n"local/smollm"')
    )
    assert [line.split(" ")[:2] for line in found] == [
        ["headway.toml:2:", "gateway.lisen"],
        ["headway.toml:14:", "features.support-chat.targets[1]"],
        ["headway.toml:15:", "features.support-chat.record.keepdays"],
        ["headway.toml:17:", "tenants.search.wait"],
    ]
    assert found[1].startswith(
        'headway.toml:14: features.support-chat.targets[1] "local/smollm" is not a model of provider local; did you mean "local/smollm2"? ('
    )
    assert 'did you mean "listen"?' in found[0]
    assert 'did you mean "keep_days"?' in found[2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[gatway]", 'headway.toml:1: gatway is not a setting of the file; did you mean "gateway"?'),
        ("drain_s = 4", "headway.toml:1: drain_s is not a setting of the file (it belongs in [gateway])"),
        ("[tenants.a]\nretries_max = 1", "(it belongs in [providers.NAME])"),
        ("[gateway]\ndrain_s = '4'", 'headway.toml:2: gateway.drain_s must be a whole number, not "4"'),
        ("[gateway]\ndrain_s = true", "must be a whole number, not true"),
        ("[gateway]\ndrain_s = 1.5", "must be a whole number, not 1.5"),
        ("[gateway]\ndrain_s = -1", "is -1; it must lie between 0 and 86400"),
        ("gateway = 4", "headway.toml:1: gateway must be a table, not 4"),
        ("[providers]\na = 'x'", 'providers.a must be a table, not "x"'),
        ("open_access = 1", "open_access must be true or false, not 1"),
        ("[features.a]\ntargets = 'x'", 'targets must be a list, not "x"'),
        ("[features.a]\ntargets = ['x/y', 4]", "targets[1] must be a text, not 4"),
        ("[features.a]", "features.a.targets is empty"),
        ("[features.a]\ntargets = ['x']", '"x" is not provider/model'),
        (
            "[features.a]\ntargets = ['opnai/x']\n[providers.openai]\nkey='env:K'",
            'names no provider; did you mean "openai/x"? (providers: openai)',
        ),
        ("[features.'a/b']\ntargets = []", 'features."a/b" is not a name'),
        ("[tenants.a]\nweight = 0", "is 0; it must lie between 0.001 and"),
        ("[tenants.a]\nweight = nan", "is nan; it must lie"),
        ("[tenants.a]\nclass = 'batsh'", 'did you mean "batch"?'),
        (
            "[tenants.a]\nfeatures = ['chatt']\n[features.chat]\ntargets=['o/m']\n[providers.o]\nkey='env:K'",
            'did you mean "chat"? (features: chat)',
        ),
        ("[tenants.a]\nbudget_usd_per_day = '4 euro'", '"4 euro" is not an amount of dollars'),
        ("[tenants.a]\nbudget_usd_per_day = inf", "is not an amount of dollars"),
        ("[tenants.a]\nbudget_usd_per_day = -1", "is not an amount of dollars"),
        (
            "[gateway]\nlisten = '127.0.0.1:9'\n[control]\nlisten = '0.0.0.0:9'",
            'control.listen "0.0.0.0:9" is the port that gateway.listen has',
        ),
        ("[gateway]\nlisten = '127.0.0.1:99999'", "has a port above 65535"),
        ("[gateway]\nlisten = ':80'", "has no host"),
        ("[gateway]\nlisten = '::1:80'", "an IPv6 address stands in [ ]"),
        ("[providers.a]\npreset = 'vlm'", 'is not a preset; did you mean "vllm"?'),
        ("[providers.a]\ndialect = 'antropic'", 'is not a dialect; did you mean "anthropic"?'),
        ("[providers.a]\npreset = 'azure'", "needs base_url"),
        ("[providers.a]\npreset = 'bedrock'", "needs region or base_url"),
        ("[providers.a]\nbase_url = 'ftp://x'", "is not an http:// or https:// address"),
        ("[providers.a]\nbase_url = 'http://x:99999'", "is not an http:// or https:// address"),
        ("[providers.a]\nbase_url = 'http://u:p@x'", "holds a user name or password"),
        ("[providers.a]\nbase_url = 'http://x/?a=b'", "must end with its path"),
        ("[providers.a]\nbase_url = 'http://x'\nbase_urls = ['http://y']", "and base_url are both set"),
        ("[providers.a]\nheaders = { Host = 'x' }", "is a header that the gateway sets itself"),
        ('[providers.a]\nheaders = { x-y = "a\\r\\nb: c" }', "is not a header"),
        ("[providers.a.timeouts]\ntotal_ms = 1", "below connect_ms or first_byte_ms"),
        ("[providers.a]\nregion = 'eu/../x'", "is not a region's name"),
        ("[control]\nlink_listen = 'tls://0.0.0.0:7'", "needs control.link_token"),
        ("[control]\nlink_listen = '0.0.0.0:7'", "is not tls://host:port"),
        ("[gateway]\ncontrol = 'http://x'", "is neither unix:PATH nor tls://host:port"),
        ("[control]\nstore = 'mysql://h/d'", "is neither sqlite:///PATH nor postgresql://"),
        ("[features.a]\ntargets=['o/m']\nrecord.redact=['emial']\n[providers.o]\nkey='env:K'", 'did you mean "email"?'),
    ],
)
def test_each_mistake_has_its_words(text: str, wanted: str) -> None:
    assert wanted in "\n".join(problems(text))


@pytest.mark.parametrize(
    "text",
    [
        f"[providers.a]\nkey = '{SECRET}'",
        f"[providers.a]\nheaders = {{ authorization = 'Bearer {SECRET}' }}",
        f"[providers.a]\npreset = '{SECRET}'",
        f"[providers.a]\nbase_url = '{SECRET}'",
        f"[providers.a]\n'{SECRET}' = 1",
        f"[features.a]\ntargets = ['{SECRET}']",
        f"[gateway]\nlink_token = '{SECRET}'",
        f"[control]\nstore = 'postgresql://u:{SECRET}@h/d'",
        f"[tenants.a]\nbudget_usd_per_day = '{SECRET}'",
        f"[gateway]\ndrain_s = '{SECRET}'",
        f"[gateway]\nlisten = '{SECRET}'",
        f"x = '{SECRET}",
    ],
)
def test_a_secret_in_the_wrong_place_is_fatal_and_not_echoed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "AAAABBBB" not in str(caught.value)


def test_names_that_merely_are_long_are_shown() -> None:
    assert (
        '"local/anthropic/claude-haiku-4-5-20251002"'
        in problems(GOOD.replace("local/smollm2", "local/anthropic/claude-haiku-4-5-20251002"))[0]
    )


def test_text_that_is_not_toml_has_a_line() -> None:
    with pytest.raises(ConfigError, match=r"^headway\.toml:2: is not TOML: .* in column \d+ \("):
        parse("a = 1\nb = = 2\n")


def test_keys_that_a_provider_needs_are_warned_of() -> None:
    (warning,) = parse("[providers.openai]\n").warnings
    assert (
        warning
        == 'headway.toml:1: providers.openai.key is not set; openai refuses calls without one (e.g. key = "env:OPENAI_API_KEY")'
    )
    (plain,) = parse("[providers.a]\nbase_url = 'http://example.test'\nkey = 'env:K'\n").warnings
    assert "sends the key without TLS" in plain


def test_every_number_has_a_range_and_its_default_lies_in_it() -> None:
    numbers = {
        (cls.__name__, field.name): field.default
        for _, cls in tables()
        for field in msgspec.structs.fields(cls)
        if get_type_hints(cls)[field.name] in (int, float, int | None, float | None)
    }
    assert set(numbers) == set(RANGES)
    for place, (low, high) in RANGES.items():
        assert numbers[place] is None or low <= numbers[place] <= high, place


def test_files_are_found_read_and_counted_from(tmp_path: Path) -> None:
    path = tmp_path / "headway.toml"
    path.write_text(GOOD + "[providers.f]\nkey = 'file:key.txt'\n[state]\ndir = 'kept'\n")
    assert find(path, {}) == path
    assert find(None, {"HEADWAY_CONFIG": str(path)}) == path
    loaded = load(path, env={}, discover=None)
    assert loaded.state_dir == tmp_path / "kept"
    assert loaded.settings.providers["f"].key == f"file:{tmp_path}/key.txt"
    with pytest.raises(ConfigError, match="there is no file"):
        find(tmp_path / "absent.toml", {})


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "headway.toml"
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="headway.toml: is not UTF-8 at byte 5"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="is too large"):
        load(path)


def test_discovery_fills_in_only_where_no_provider_is_named() -> None:
    def found(settings: Settings) -> dict[str, Found]:
        return {"ollama": Found(provider=Provider(preset="ollama"), why="ollama answers on port 11434")}

    assert "ollama" not in parse(GOOD, discover=found).settings.providers
    loaded = parse("", discover=found)
    assert loaded.settings.providers["ollama"].preset == "ollama"
    assert str(loaded.origins["providers.ollama.preset"]) == "discovered: ollama answers on port 11434"


def test_no_file_is_all_defaults() -> None:
    assert load(None, env={}, discover=None).settings == Settings()


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("[control]\nlisten = '127.0.0.1:9'\nlistn = 1\n[features.a]\ntargets = ['x']", "127.0.0.1:9"),
        ("[control]\nlisten = 'nonsense'", "127.0.0.1:8090"),
        ("[control]\nlisten = 9", "127.0.0.1:8090"),
        ("not toml", "127.0.0.1:8090"),
        ("control = 1", "127.0.0.1:8090"),
    ],
)
def test_what_runs_is_found_even_when_the_file_is_wrong(tmp_path: Path, text: str, listen: str) -> None:
    path = tmp_path / "headway.toml"
    path.write_text(text)
    found = whereabouts(path, {})
    assert found.settings.control.listen == listen
    assert found.state_dir == tmp_path / ".headway"
    assert whereabouts(path, {"HEADWAY_CONTROL_LISTEN": "127.0.0.1:7"}).settings.control.listen == "127.0.0.1:7"
