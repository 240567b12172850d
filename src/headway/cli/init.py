"""``headway init``: a first headway.toml."""

from pathlib import Path

import click

from headway.cli.common import emit, json_option
from headway.cli.trouble import NOT_AS_WANTED, Trouble
from headway.config.init import discover, starter
from headway.config.load import FILE_NAME


@click.command("init")
@click.option("--file", "name", default=FILE_NAME, show_default=True, help="Where to write.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_option
def command(name: str, force: bool, as_json: bool) -> None:
    """Write a first headway.toml from what is found here.

    Looks for OPENAI_API_KEY and ANTHROPIC_API_KEY, and for Ollama, vLLM and llama.cpp on their usual ports of this machine.
    """
    path = Path(name)
    if path.exists() and not force:
        raise Trouble(
            f"{path} is there already", "init does not write over a configuration", "headway check explains it; --force replaces it"
        )
    found = discover()
    text = starter(found)
    try:
        path.write_text(text)
    except OSError as error:
        raise Trouble(f"{path} cannot be written", str(error.strerror), "choose another place with --file", NOT_AS_WANTED) from None
    if as_json:
        emit({"path": str(path), "providers": {provider: one.why for provider, one in found.items()}})
        return
    for provider, one in found.items():
        click.echo(f"found {provider}: {one.why}")
    if not found:
        click.echo("found no provider: the file names openai, whose key is read from OPENAI_API_KEY")
    click.echo(f"wrote {path}:\n\n{text}\nnext: headway check, then headway serve")
