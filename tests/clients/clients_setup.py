"""What the client suite and the edge suite configure: three providers, one a dialect, all at the scripted upstream."""

DIALECTS = ("openai-chat", "openai-responses", "anthropic")
MODEL_BY_DIALECT = {"openai-chat": "harbour-chat", "openai-responses": "harbour-responses", "anthropic": "harbour-messages"}

PROVIDER = """
[providers.{name}]
preset = "{preset}"
dialect = "{dialect}"
base_url = "{url}{suffix}"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["{model}"]
price_as = "free"
retries_max = {retries}

[features.{model}]
targets = ["{name}/{model}"]
"""


def configuration(upstream_url: str, *, retries: int = 0, more: str = "") -> str:
    """Three providers, one a dialect, all at the scripted upstream; a feature of the same name as each model."""
    presets = {
        "openai-chat": ("chat", "openai", "/v1"),
        "openai-responses": ("responses", "openai", "/v1"),
        "anthropic": ("messages", "anthropic", ""),
    }
    parts = [
        PROVIDER.format(name=n, preset=p, dialect=d, url=upstream_url, suffix=s, model=MODEL_BY_DIALECT[d], retries=retries)
        for d, (n, p, s) in presets.items()
    ]
    return "\n".join([*parts, more])
