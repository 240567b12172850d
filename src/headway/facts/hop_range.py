"""Which traces a question is about. Loads neither ibis nor DuckDB."""

import msgspec


class HopQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Traces that began from ``since`` up to before ``until``; microseconds since 1970. An empty tenant is all."""

    since_wall_us: int
    until_wall_us: int
    tenant: str = ""
