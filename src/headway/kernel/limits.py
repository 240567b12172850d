"""Every bound of the product by name. No queue, cache or buffer elsewhere carries a number of its own.

What happens when a bound is reached stands beside it. Settable ones are defaults of ``headway.toml`` (``[gateway.limits]``).
"""

# HTTP in. Over it: 414, 431, 413 in the caller's dialect and the connection closes.
REQUEST_LINE_BYTES_MAX = 8 * 1024
HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
BODY_BYTES_MAX = 32 * 1024 * 1024
CHUNK_EXTENSION_BYTES_MAX = 4 * 1024
BODY_CHUNKS_MAX = 65_536
"""Pieces of one chunked body; more is 400, since each costs the parser time however small it is."""
PIPELINED_BYTES_MAX = 64 * 1024
"""Bytes of later requests held while one is answered; then reading stops until it is."""
TOP_LEVEL_KEYS_MAX = 256
JSON_DEPTH_MAX = 128
JSON_CONTAINERS_MAX = 262_144

# Slow clients. At the deadline the connection is closed (408 while nothing was sent).
HEAD_DEADLINE_MS = 10_000
BODY_DEADLINE_MS = 60_000
BODY_RATE_BYTES_PER_S_MIN = 1_024
SEND_STALL_MS = 60_000
KEEP_ALIVE_IDLE_MS = 75_000
CONNECTIONS_MAX = 8_192
CONNECTIONS_PER_ADDRESS_MAX = 4_096
CONNECTIONS_REFUSED_MAX = 512
"""Connections over ``CONNECTIONS_MAX`` that are told so at the same time; further ones are reset."""
BODY_RATE_GRACE_MS = 5_000
"""How long a body may be slower than its minimum rate."""
LISTENER_SWEEP_MS = 250
"""How often all connections are held against their deadlines."""
LISTENER_SWEEP_SLICE = 128
"""Connections looked at in one turn of the loop."""
LINGER_MS = 1_000
LINGER_BYTES_MAX = 32 * 1024 * 1024
"""After a refusal the caller may still be sending: so long and so much is read and dropped, that it can read why."""
LISTEN_BACKLOG = 2_048

# A call. Waiting calls over the bound are refused with 503 and Retry-After.
CALLS_IN_FLIGHT_MAX = 4_096
POLICY_EFFECTS_PER_EVENT_MAX = 64
SUBCALLS_PER_CALL_MAX = 1_024
PIECES_PER_CALL_MAX = 1_000
"""Pieces of one paced prompt: longer prompts get larger pieces, so that the last one still falls within it."""
HOLD_BYTES_MAX = 1 * 1024 * 1024
OPENING_HOLD_MS = 1_000
"""The beginning of a stream, before its first token, is kept back so long while another target could still take the call; then it goes out."""
HEADER_VALUE_CHARS_MAX = 200
TOKEN_TIMES_MAX = 16_384
CALLER_UNSENT_BYTES_MAX = (
    16 * 1024
)  # that the kernel holds of an answer beyond what is on its way; then we do, and then the stream waits
BLOCKED_WRITES_MAX = 256  # of one answer, kept with their times; later ones lengthen the last
PREFIX_HASHES_MAX = 64
ANSWER_BYTES_MAX = 64 * 1024 * 1024
STREAM_EVENT_BYTES_MAX = 8 * 1024 * 1024

# Answers given again under x-headway-idempotency-key. Over a bound the oldest is forgotten, and its repeat is a new call.
IDEMPOTENCY_ENTRIES_MAX = 10_000
IDEMPOTENCY_TTL_S = 600
IDEMPOTENCY_ANSWER_BYTES_MAX = 1024 * 1024
"""A larger answer is not kept; its repeat is refused with the id of the call that gave it."""
IDEMPOTENCY_BYTES_MAX = 32 * 1024 * 1024

# Remembered by the gateway in one generation; past it things are looked up each time.
PRICES_REMEMBERED_MAX = 4_096
DIRECT_ROUTES_MAX = 4_096
MODELS_LISTED_MAX = 2_000

# Upstream.
UPSTREAM_SOCKETS_MAX = 4_096
UPSTREAM_KEEP_ALIVE_IDLE_MS = 15_000
UPSTREAM_STREAM_SETTLE_MS = 250
UPSTREAM_HEAD_LINE_BYTES_MAX = 8 * 1024
UPSTREAM_HEADERS_MAX = 128
UPSTREAM_HEAD_BYTES_MAX = 64 * 1024
UPSTREAM_HEADS_KEPT = 1_024
UPSTREAM_HEADER_NAMES_KEPT = 1_024
UPSTREAM_INTERIM_MAX = 16
"""1xx answers before the final one; more is a fault of the upstream, and the exchange fails."""
UPSTREAM_READ_BUFFER_BYTES = 64 * 1024
"""Low water of an answer's buffer; at twice this the socket is no longer read."""
UPSTREAM_SWEEP_MS = 50
UPSTREAM_URLS_KEPT = 1_024
DNS_KEPT_S = 30
CONNECT_TIMEOUT_MS = 5_000
FIRST_BYTE_TIMEOUT_MS = 120_000
IDLE_TIMEOUT_MS = 60_000
TOTAL_TIMEOUT_MS = 600_000
CLIENT_GONE_CLOSE_MS = 100
RETRIES_PER_CALL_MAX = 4
RETRY_SHARE_MAX = 0.15
"""Further tries a first try earns: with the burst on top, 200 calls see at most 1.2 tries each."""
RETRY_BURST = 10
ENGINE_SLOTS_MAX = 1_024
"""Slots that an engine of one's own may be said to have."""
ENGINE_LOAD_TIMEOUT_MS = 2_000
ENGINE_LOAD_BYTES_MAX = 4 * 1024 * 1024
"""An engine's page of metrics: one that is longer or comes later counts as not told."""

# Facts. Over it a row is shed and counted; the call goes on.
SPOOL_FLUSH_MS = 200
SPOOL_QUEUE_ROWS_MAX = 20_000
SPOOL_SEGMENT_BYTES_MAX = 4 * 1024 * 1024
SPOOL_SEGMENT_AGE_MS = 2_000
SPOOL_DISK_BYTES_MAX = 1024 * 1024 * 1024
LIVE_CALLS_KEPT = 2_000
LIVE_FEED_CALLS_PER_S_MAX = 200
RECORDING_TEXT_BYTES_MAX = 256 * 1024
SPOOL_QUEUE_BYTES_MAX = 32 * 1024 * 1024
SPOOL_ROW_BYTES_MAX = 1024 * 1024
SPOOL_BACKLOG_SEGMENTS = 64
SPOOL_BACKLOG_AGE_FACTOR = 15

# Link between gateway and control. A frame over the bound closes the link, which reconnects.
LINK_FRAME_BYTES_MAX = 64 * 1024 * 1024
LINK_QUEUE_FRAMES_MAX = 4_096
LINK_RECONNECT_MS_MAX = 2_000
SNAPSHOT_GRACE_S = 24 * 3600
KEY_REVOKED_WITHIN_S = 10
LINK_HELLO_MS_MAX = 5_000
LINK_SILENCE_MS_MAX = 15_000  # a gateway that sends nothing, not even heartbeats: its connection is dropped
LINK_SEGMENTS_WAITING_MAX = 8  # over it a segment is not taken and comes again
LINK_GATEWAYS_MAX = 256

# Admission. Tenants and runs that have nothing queued or running are forgotten, the longest unused first, once there are more than these.
ADMISSION_TENANTS_KEPT_MAX = 10_000
ADMISSION_RUNS_KEPT_MAX = 10_000
ADMISSION_KINDS_KEPT_MAX = 4_096  # of (tenant, feature, max_tokens band) whose answer lengths are remembered, an endpoint
ADMISSION_PROMISES_MAX = 20_000  # Retry-Afters that places are kept for, an endpoint; over it the oldest keeps none
ADMISSION_EFFECTS_PER_EVENT = 48  # more admissions than this wait for a tick at once: a policy's effects per event are bounded

# Evidence of admission.
SHARED_EXCHANGE_MS = 50  # between exchanges with the shared store: how stale the others' counters are at most
SHARED_TIMEOUT_MS = 250  # of one command; then it counts as failed and is sent again
SHARED_AWAY_MS = 600  # without an answer for so long a gateway goes on by its own counters with its part of the endpoint
SHARED_GATEWAY_ALIVE_MS = 2_000  # a gateway not heard of for so long has nothing in flight as far as the others go
SHARED_KEPT_S = 86_400  # counters that nobody exchanged for so long are dropped from the store
SHARED_TENANTS_A_TIME_MAX = 1_000  # an exchange; those with news first, the others in turn
ADMISSION_TENANTS_SEEN_MAX = 200  # an endpoint whose queues the board shows; over it those with least waiting are left out
ADMISSION_CALLS_READ_MAX = (
    5_000  # newest calls whose intervals are laid beside each other for stalls and token gaps; the count is shown
)
ADMISSION_VALUES_MAX = (
    500_000  # calls whose times are sorted for quantiles; of more, one in so many, spread over the range, and figures say so
)
ADMISSION_GIANTS_MARKED_MAX = 200  # giant prompts marked in a chart: the newest
ADMISSION_STRATA_SHOWN_MAX = (
    200  # rows of a table by tenant, class and band; over it the ones with fewest calls are left out and counted
)
ADMISSION_PEERS_KEPT_MAX = (
    64  # tenants in the matrix of stalls; over it the ones with least stall count together as "other tenants"
)

# Budgets.
BUDGET_BLOCK_MAX_SHARE = 0.05
LEASE_TTL_S = 60
LEASE_WAIT_MS_MAX = 1_000
LEASE_RETURNS_WAITING_MAX = (
    10_000  # while the store is away; over it the oldest is dropped, and its lease expires and is reconciled
)
LEASE_RECONCILE_QUIET_MS = 10_000
LEASES_KEPT_DAYS = 62  # older ones are deleted: their months are over, what they spent stays in the budget's history
LEDGER_TICK_MS = 1_000

# Control.
SESSION_TTL_S = 12 * 3600
LOGIN_FAILURES_PER_MINUTE_MAX = 10
PAGE_ROWS_MAX = 500
EVENT_SUBSCRIBERS_MAX = 200
CONTROL_CONNECTIONS_MAX = 1_000  # over it control answers 503
EVENT_QUEUE_MAX = 512  # events a browser has not read: more are dropped, counted, and the page fetches itself again
EVENT_ROWS_PER_PUSH_MAX = 50  # a burst shows its newest rows and says how many it left out
LIVE_OPEN_MAX = 8_192  # the oldest open call becomes "unknown"
LIVE_OPEN_AGE_MS_MAX = 3_600_000
LIVE_UNKNOWN_AFTER_MS = 10_000
LOGIN_LINK_TTL_S = 600
LOGIN_LINKS_MAX = 16  # the oldest unused link stops working
LOGIN_SUBJECTS_MAX = 4_096  # names and addresses with failures; over it the one that failed longest ago is forgotten
CONTROL_BODY_BYTES_MAX = 64 * 1024
NEIGHBOURS_MAX = 20
PASSWORD_CHARS_MIN = 10
LEDGER_QUEUE_MAX = 10_000  # over it a write is refused: the ledger is busy
LEDGER_BATCH_MAX = 256
LEDGER_READERS = 4
LEDGER_READS_WAITING_MAX = 1_000
LEDGER_RETRIES_MAX = 5
LEDGER_LOCK_WAIT_MS = 10_000

# Fact tables. Small files are merged; over the bound of waiting queries a page is refused with "busy"; a slow query is interrupted.
FACT_FILE_BYTES_MAX = 32 * 1024 * 1024
FACT_FILES_MERGED_AT_ONCE = 16
FACT_ROW_GROUP_ROWS = 16_384
FACT_QUERY_THREADS = 2
FACT_QUERIES_WAITING_MAX = 64
FACT_QUERY_TIMEOUT_MS = 15_000
FACT_QUERY_MEMORY_MB_MAX = 512
FACT_GROUPS_MAX = 200_000
FACT_LAKE_GRACE_S = 600
FACT_LAKE_ORPHAN_S = 3_600
FACT_LAKE_FILES_MERGED_MAX = 256
NEIGHBOURS_SHOWN_MAX = 200
RECORDED_TEXT_SCANNED_CHARS_MAX = 512 * 1024

# Metrics, spans and logs. A label value over the bound counts as "other"; spans and log lines over theirs are shed and counted.
METRIC_VALUES_PER_LABEL_MAX = 100
METRIC_SERIES_PER_FAMILY_MAX = 1_000
METRIC_LABEL_CHARS_MAX = 100
SPAN_QUEUE_MAX = 4_096
SPANS_PER_POST_MAX = 512
SPAN_POST_TIMEOUT_MS = 5_000
SPAN_RETRY_MS_MAX = 30_000
OTLP_METRICS_EVERY_MS = 60_000
OTLP_SERIES_MAX = 1_000  # of metrics sent by OTLP; what comes after counts in one series of overflow
SPAN_VERDICTS_PER_S_MAX = 20  # calls judged for spans; over it they have none, and are counted
SPAN_VERDICTS_PENDING_MAX = 512  # calls that wait for their verdict; over it the oldest has none
SPAN_VERDICTS_UNSENT_MAX = 512  # over it the oldest is dropped
LOG_QUEUE_LINES_MAX = 10_000
LOG_LINE_CHARS_MAX = 16 * 1024
LOG_FILE_BYTES_MAX = 32 * 1024 * 1024
LOG_FILES_KEPT = 3
LOG_SAME_LINES_MAX = 5
LOG_SAME_WINDOW_MS = 10_000
LOG_KINDS_REMEMBERED_MAX = 1_000
LOG_CLOSE_WAIT_MS = 2_000

# Probes. A route over the first is not probed, and the page says so.
PROBE_ROUTES_MAX = 200
PROBES_IN_FLIGHT_MAX = 4  # routes probed at the same time; the others wait for their turn
PROBE_TIMEOUT_MS = 60_000  # of one call; it is given up then, and charged at its upper bound
PROBE_ANSWER_BYTES_MAX = 1024 * 1024  # an answer that is longer is cut off
PROBE_RESULTS_KEPT_MAX = 16  # last results of a route that the page shows; the facts have them all
PROBE_TIMES_MAX = 20_000  # rows of one question about probes: the newest

# Configuration. Over these: a precise error, and the last good generation stays.
CONFIG_FILE_BYTES_MAX = 1024 * 1024
SECRET_FILE_BYTES_MAX = 16 * 1024
CONFIG_NAME_CHARS_MAX = 64
DISCOVER_TIMEOUT_MS = 400

# headway serve.
SERVE_READY_S = 30
SERVE_STOP_S = 10  # beyond the gateway's drain; then a child is killed
RESTART_BACKOFF_MS_MAX = 5_000
RESTART_CALM_MS = 30_000  # a child that ran so long starts again without waiting

assert HEAD_BYTES_MAX > REQUEST_LINE_BYTES_MAX
assert ADMISSION_EFFECTS_PER_EVENT < POLICY_EFFECTS_PER_EVENT_MAX
assert SPOOL_DISK_BYTES_MAX > 2 * SPOOL_SEGMENT_BYTES_MAX
assert LINK_FRAME_BYTES_MAX > 4 * SPOOL_SEGMENT_BYTES_MAX

# Translation between dialects.
ANTHROPIC_MAX_TOKENS_DEFAULT = 4_096
"""Anthropic requires max_tokens: what a call gets whose dialect does not and which names none. A thinking budget comes on top."""
RESPONSES_MAX_TOKENS_MIN = 16
"""OpenAI's Responses API refuses fewer; a smaller wish is raised to it and named as lost."""
INTERLEAVED_BYTES_MAX = 8 * 1024 * 1024
"""Parts that arrive interleaved and must leave one after the other wait here; over it the stream ends with an error event."""

# The lab. Over the first the cache forgets its oldest block; past the second, requests behind a blocked head are not looked at in that step.
LAB_CACHED_BLOCKS_MAX = 1_000_000
LAB_SKIPPED_PER_STEP_MAX = 256
LAB_LINE_BYTES_MAX = 16 * 1024 * 1024  # of a trace file; over it, or over so many rows, the file is refused
LAB_ROWS_MAX = 5_000_000
LAB_ENGINE_WAITING_MAX = 1_024  # requests the simulated engine holds unbegun on a socket; more are refused with 503 and Retry-After
LAB_ENGINE_CONNECTIONS_MAX = 4_096  # more are reset

# Verdicts. Over the first, calls of a comparison are left out on the far side of its instant, and counted.
PHASE_CALLS_READ_MAX = 3_000  # a side
PHASE_CALLS_BEFORE_MAX = 1_500  # of its target, from which one call is judged: the newest before it
PHASE_PREFIXES_MAX = (
    100_000  # hashes whose last call is remembered while a range is read; over it the one unused for longest is forgotten
)
PHASE_TENANTS_MAX = 10_000
PHASE_HEADS_MAX = 500  # beginnings of recorded prompts, from which a changed prefix is read
PHASE_HEAD_CHARS_MAX = 4_096  # of each
PHASE_VERDICTS_KEPT_MAX = 256  # of calls that somebody looked at
PHASE_WAITING_MAX = 8  # questions that wait for their turn; who comes after is told to come again

# Traces of spans, from which hops are worked out. Every repair and refusal is counted by its reason.
HOP_TRACE_SPANS_MAX = 250_000  # of one trace; over it the trace is refused whole, since a tree that lacks spans at random lies
HOP_TRACE_US_MAX = 366 * 86_400 * 1_000_000
"""How long a trace may last, a person's wait included. A longer span is cut to it, one that lies further from its root is moved to its parent."""
HOP_EARLIEST_US = 946_684_800 * 1_000_000  # 2000-01-01: a root before it has a broken clock; its trace is kept by relative times
HOP_LATEST_US = 3_786_912_000 * 1_000_000  # 2090-01-01: likewise; who knows the time passes a nearer bound
HOP_SKEW_US_MAX = 20_000
"""A call of another process that ends so little after the span that made it is taken for a clock that runs ahead, and is moved; more is not."""
HOP_STRATA_SHOWN_MAX = 50  # of a report; the smaller ones are one, named (other)
HOP_HOPS_SHOWN_MAX = 40  # of one stratum, by what they own; the others are one, named (other)
HOP_WHATIF_TRACES_MAX = 5_000  # laid out again for a question; of more, so many evenly by duration, and the figure says so
HOP_PAIRS_SHOWN_MAX = 20  # pairs of calls that could run together, by what they could save

# Spans taken in, by OTLP and from files. Over a bound a post is refused whole (413, 429) or a span with its reason; both are counted.
TRACE_BODY_BYTES_MAX = 64 * 1024 * 1024  # of one post, packed and unpacked
TRACE_POSTS_WAITING_MAX = 64  # being received and read at the same time; more are told to come again
TRACE_WAITING_BYTES_MAX = 256 * 1024 * 1024  # of these together; likewise
TRACE_LINGER_MS = 100  # a post waits so long for others, to be written into one file with them
TRACE_BATCH_SPANS_MAX = 250_000  # written at once; what is more waits for the next write
TRACE_COUNTED_MAX = 50_000  # traces whose spans are counted against HOP_TRACE_SPANS_MAX; the longest unseen is forgotten
TRACE_ATTRIBUTE_CHARS_MAX = 16 * 1024  # of one value; the rest is cut off, and an attribute that nobody reads is counted
TRACE_NAME_CHARS_MAX = 200  # of names of spans, services and hops; the rest is cut off
TRACE_ID_CHARS_MAX = 64  # of an id in a file; a longer one is malformed
TRACE_DATA_VALUES_MAX = 32  # hashes of what a span was given, or gave
TRACE_FILE_BYTES_MAX = 2 * 1024 * 1024 * 1024  # of a file of traces, unpacked; over it the file is refused
HOP_SPANS_READ_MAX = 1_000_000  # out of the facts for one report: the newest traces, and the report says so
