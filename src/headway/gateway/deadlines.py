"""What is left of a call, handed down to an upstream that was configured to be told. A caller's own header never gets there: the number is ours."""

from headway.config.model import Provider


def told_deadline(provider: Provider, remaining_ms: float | None) -> tuple[tuple[str, str], ...]:
    """``provider.deadline_header`` with the whole milliseconds after which we give up: what is left of the call, at most ``timeouts.total_ms``.

    Empty where the provider names no header. Never 0, which some take for "no limit".
    """
    if not provider.deadline_header:
        return ()
    total_ms = provider.timeouts.total_ms
    left_ms = total_ms if remaining_ms is None else min(total_ms, remaining_ms)
    return ((provider.deadline_header.lower(), str(max(1, int(left_ms)))),)
