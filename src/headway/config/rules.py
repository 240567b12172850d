"""What a value may be beyond its type: ranges by table and field, and the words with a closed list."""

from types import MappingProxyType
from typing import Final

from headway.kernel import limits

DAY_S: Final = 24 * 3600
DAY_MS: Final = DAY_S * 1000

RANGES: Final = MappingProxyType(
    {
        ("Limits", "request_line_bytes_max"): (256, 64 * 1024),
        ("Limits", "head_bytes_max"): (1024, 1024 * 1024),
        ("Limits", "headers_max"): (10, 1_000),
        ("Limits", "body_bytes_max"): (1024, 1024 * 1024 * 1024),
        ("Limits", "json_depth_max"): (8, 1_000),
        ("Limits", "head_deadline_ms"): (100, DAY_MS),
        ("Limits", "body_deadline_ms"): (100, DAY_MS),
        ("Limits", "body_rate_bytes_per_s_min"): (0, 1024 * 1024 * 1024),
        ("Limits", "send_stall_ms"): (100, DAY_MS),
        ("Limits", "keep_alive_idle_ms"): (100, DAY_MS),
        ("Limits", "connections_max"): (1, 1_000_000),
        ("Limits", "connections_per_address_max"): (1, 1_000_000),
        ("Limits", "calls_in_flight_max"): (1, 1_000_000),
        ("Gateway", "snapshot_grace_s"): (0, 365 * DAY_S),
        ("Gateway", "spool_disk_bytes_max"): (2 * limits.SPOOL_SEGMENT_BYTES_MAX, 1024**4),
        ("Gateway", "drain_s"): (0, DAY_S),
        ("Control", "facts_keep_days"): (1, 36_500),
        ("Timeouts", "connect_ms"): (1, DAY_MS),
        ("Timeouts", "first_byte_ms"): (1, DAY_MS),
        ("Timeouts", "idle_ms"): (1, DAY_MS),
        ("Timeouts", "total_ms"): (1, DAY_MS),
        ("Provider", "retries_max"): (0, limits.RETRIES_PER_CALL_MAX),
        ("Provider", "slots"): (0, limits.ENGINE_SLOTS_MAX),
        ("Provider", "image_tokens_max"): (1, 10_000_000),
        ("Tenant", "weight"): (0.001, 1_000_000),
        ("Tenant", "budget_tokens_per_day"): (0, 10**15),
        ("Tenant", "budget_tokens_per_month"): (0, 10**15),
        ("Record", "keep_days"): (1, 36_500),
        ("Feature", "deadline_ms"): (1, DAY_MS),
        ("Feature", "max_output_tokens"): (1, 10_000_000),
    }
)
"""(table, field) to the lowest and highest allowed value, both allowed. A test holds that no number is without a range."""

CLASSES: Final = ("interactive", "batch")
UPSTREAM_CLIENTS: Final = ("headway", "aiohttp")
REDACTIONS: Final = ("email", "card", "phone", "key")
BUDGETS_USD: Final = ("budget_usd_per_day", "budget_usd_per_month")
BUDGET_USD_MAX: Final = 9_000_000_000
"""A 64-bit column of nano-dollars holds a little more."""

HEADERS_OWNED: Final = ("host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding")
"""Upstream headers that the gateway sets itself."""

ENV_SETTINGS: Final = MappingProxyType(
    {
        "HEADWAY_GATEWAY_LISTEN": ("gateway", "listen"),
        "HEADWAY_GATEWAY_CONTROL": ("gateway", "control"),
        "HEADWAY_CONTROL_LISTEN": ("control", "listen"),
        "HEADWAY_CONTROL_STORE": ("control", "store"),
        "HEADWAY_CONTROL_LINK_LISTEN": ("control", "link_listen"),
        "HEADWAY_CONTROL_OTLP_ENDPOINT": ("control", "otlp_endpoint"),
        "HEADWAY_STATE_DIR": ("state", "dir"),
    }
)
"""Variables that override the file: what differs between machines and containers. Everything else is in the file only."""
