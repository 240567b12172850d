"""Which client speaks to providers is a setting, and a wrong word is told."""

from pathlib import Path

import pytest

from headway.config.load import load
from headway.gateway.process import upstream_client
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.on_aiohttp import AiohttpUpstream
from headway.kernel.errors import ConfigError


@pytest.mark.parametrize(("name", "kind"), [("headway", Http1Upstream), ("aiohttp", AiohttpUpstream)])
async def test_the_setting_chooses(name: str, kind: type) -> None:
    client = upstream_client(name)
    assert isinstance(client, kind)
    await client.close()


def test_a_wrong_word_names_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "headway.toml"
    path.write_text('[gateway]\nupstream_client = "aiohtp"\n')
    with pytest.raises(ConfigError, match=r'headway\.toml:2.*did you mean "?aiohttp'):
        load(path)
