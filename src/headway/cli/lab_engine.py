"""``headway lab engine``: the simulated engine on a socket."""

import click

from headway.cli.trouble import MISSING, UNUSABLE, Trouble


@click.command("engine")
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="Port 0 takes a free one.")
@click.option("--profile", "profile_name", default="pro6000_8b", show_default=True, help="The machine and its model; see below.")
@click.option("--model", default="", help="The name it answers to; default the profile's.")
@click.option("--speed", type=click.FloatRange(0.01, 1_000), default=1.0, show_default=True, help="10 is ten times as fast.")
@click.option("--step-tokens", "step_tokens_max", type=int, help="Tokens a step at most (max_num_batched_tokens).")
@click.option("--sequences", "sequences_max", type=int, help="Requests at once (max_num_seqs).")
@click.option("--kv-blocks", type=int, help="Blocks of 16 tokens in KV memory.")
@click.option(
    "--long-threshold", "long_prefill_tokens_max", type=int, help="Tokens of one prompt a step (long_prefill_token_threshold)."
)
@click.option("--long-prefills", "long_prefills_max", type=int, help="Prompts over it at once (max_long_partial_prefills).")
@click.option("--no-prefix-cache", is_flag=True, help="Forget every prompt.")
@click.option("--fcfs", is_flag=True, help="First come first served; else by the requests' priority, then by arrival.")
@click.option("--queue-max", "waiting_max", type=click.IntRange(1), help="Requests that may wait; more get 503.")
@click.option("--bytes-a-token", type=click.IntRange(1, 16), default=4, show_default=True, help="How tokens are estimated.")
def engine(
    listen: str,
    profile_name: str,
    model: str,
    speed: float,
    no_prefix_cache: bool,
    fcfs: bool,
    waiting_max: int | None,
    bytes_a_token: int,
    **settings: int | None,
) -> None:
    """An engine without a model: it batches, stalls and caches as a measured machine does.

    It speaks OpenAI chat completions and vLLM's /metrics. Tokens are estimated from the prompt's bytes. Until Ctrl-C.

    \b
    Profiles: pro6000_8b   Llama-3.1-8B on an RTX PRO 6000
              4090_8b      Llama-3.1-8B on an RTX 4090
              laptop_135m  SmolLM2-135M on two cores
    """
    import asyncio

    from headway.config.addresses import parse_listen
    from headway.config.problems import nearest
    from headway.kernel.limits import LAB_ENGINE_WAITING_MAX
    from headway.lab.engine.settings import EngineRefusal
    from headway.lab.engine_http import EngineServer, serve, with_settings
    from headway.lab.engine_http_profiles import PROFILES

    profile = PROFILES.get(profile_name)
    if profile is None:
        near = nearest(profile_name, PROFILES) or "pro6000_8b"
        raise Trouble(f"there is no profile {profile_name!r}", "profiles are " + ", ".join(PROFILES), f"--profile {near}", UNUSABLE)
    try:
        host, port = parse_listen(listen)
    except ValueError as error:
        raise Trouble(f"cannot listen on {listen!r}", f"it {error}", "--listen 127.0.0.1:0", UNUSABLE) from None
    chosen = with_settings(profile, priority=not fcfs, prefix_cache=not no_prefix_cache, **settings)

    async def run() -> None:
        server = EngineServer(
            chosen, model=model, speed=speed, waiting_max=waiting_max or LAB_ENGINE_WAITING_MAX, bytes_a_token=bytes_a_token
        )
        await serve(server, host, port, lambda url: click.echo(f"engine {server.model} on {url}"))

    try:
        asyncio.run(run())
    except EngineRefusal as error:
        raise Trouble("these settings make no engine", str(error), "headway lab engine --help", UNUSABLE) from None
    except OSError as error:
        raise Trouble(f"cannot listen on {listen}", str(error), "--listen 127.0.0.1:0", MISSING) from None
