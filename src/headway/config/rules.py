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
        ("Facts", "bytes_max"): (limits.FACT_FILE_BYTES_MAX, 1024**5),
        ("Timeouts", "connect_ms"): (1, DAY_MS),
        ("Timeouts", "first_byte_ms"): (1, DAY_MS),
        ("Timeouts", "idle_ms"): (1, DAY_MS),
        ("Timeouts", "total_ms"): (1, DAY_MS),
        ("AdmissionCapacity", "requests_max"): (1, 1_000_000),
        ("AdmissionCapacity", "tokens_max"): (1, 10**12),
        ("AdmissionCapacity", "requests_per_minute"): (1, 10**9),
        ("AdmissionCapacity", "tokens_per_minute"): (1, 10**12),
        ("AdmissionLong", "prompt_tokens_over"): (0, 10**9),
        ("AdmissionLong", "requests_max"): (1, 10_000),
        ("AdmissionPacing", "stall_ms"): (5, 60_000),
        ("AdmissionPacing", "piece_tokens_min"): (1, 1_000_000),
        ("AdmissionPacing", "piece_tokens_max"): (1, 1_000_000),
        ("AdmissionPacing", "prefill_tokens_per_s"): (0, 10**9),
        ("AdmissionPacing", "delay_factor_max"): (1, 1_000),
        ("AdmissionRun", "concurrency_max"): (1, 1_000_000),
        ("AdmissionRun", "tokens_per_s"): (0.001, 10**9),
        ("AdmissionRun", "burst_tokens"): (1, 10**9),
        ("Admission", "prompt_price"): (0.001, 1_000),
        ("Admission", "output_price"): (0.001, 1_000),
        ("Admission", "load_every_ms"): (0, DAY_MS),
        ("Admission", "passes_max"): (0, 1_000_000),
        ("Admission", "passes_ms_max"): (0, DAY_MS),
        ("Admission", "age_ms_max"): (0, DAY_MS),
        ("Admission", "queued_max"): (1, 1_000_000),
        ("Admission", "queued_per_tenant_max"): (1, 1_000_000),
        ("Admission", "wait_ms_max"): (1, DAY_MS),
        ("Provider", "retries_max"): (0, limits.RETRIES_PER_CALL_MAX),
        ("Provider", "slots"): (0, limits.ENGINE_SLOTS_MAX),
        ("Provider", "image_tokens_max"): (1, 10_000_000),
        ("Probes", "every_s"): (10, DAY_S),
        ("Probes", "long_tokens"): (64, 100_000),
        ("ProviderProbes", "every_s"): (10, DAY_S),
        ("Tenant", "weight"): (0.001, 1_000_000),
        ("Tenant", "floor_tokens"): (0, 10**12),
        ("Tenant", "cap_tokens"): (1, 10**12),
        ("Tenant", "budget_tokens_per_day"): (0, 10**15),
        ("Tenant", "budget_tokens_per_month"): (0, 10**15),
        ("Record", "keep_days"): (1, 36_500),
        ("ClassObjective", "first_token_ms"): (1, DAY_MS),
        ("ClassObjective", "share"): (0.01, 0.9999),
        ("Feature", "deadline_ms"): (1, DAY_MS),
        ("Feature", "max_output_tokens"): (1, 10_000_000),
    }
)
"""(table, field) to the lowest and highest allowed value, both allowed. A test holds that no number is without a range."""

CLASSES: Final = ("interactive", "batch")
POLICIES: Final = ("lanes", "fair", "fcfs", "shortest")
"""The names of ``headway.calls.admission.model.POLICIES``, which this layer may not import; a test holds them equal."""
ON_OVERRUN: Final = ("cut", "demote", "pause")
FACT_STORES: Final = ("parquet", "ducklake")
UPSTREAM_CLIENTS: Final = ("headway", "aiohttp")
REDACTIONS: Final = ("email", "card", "phone", "key")
BUDGETS_USD: Final = ("budget_usd_per_day", "budget_usd_per_month")
BUDGET_USD_MAX: Final = 9_000_000_000
"""A 64-bit column of nano-dollars holds a little more."""

HEADERS_OWNED: Final = ("host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding")
"""Upstream headers that the gateway sets itself."""
HEADERS_OF_KEYS: Final = ("authorization", "x-api-key", "api-key", "user-agent", "accept", "traceparent", "cookie")
"""Further ones in which no deadline can stand."""
DEADLINE_OWN: Final = "x-headway-deadline-ms"
"""How another Headway is told what is left."""

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
