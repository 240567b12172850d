"""The nouns of ``headway.toml``: every table a frozen struct, every value with a default, units in the names.

``load.py`` fills these and remembers where each value came from. A key that no struct here has is fatal there.
Secrets are references (``env:NAME``, ``file:PATH``); these structs never hold one.
"""

import msgspec

from headway.kernel import limits


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway.limits]``: bounds of the data plane; what happens at each stands in ``kernel/limits.py``."""

    request_line_bytes_max: int = limits.REQUEST_LINE_BYTES_MAX
    """Longer: 414."""
    head_bytes_max: int = limits.HEAD_BYTES_MAX
    """Longer: 431."""
    headers_max: int = limits.HEADERS_MAX
    """More: 431."""
    body_bytes_max: int = limits.BODY_BYTES_MAX
    """Longer: 413, before it is read."""
    json_depth_max: int = limits.JSON_DEPTH_MAX
    """Deeper: 400."""
    head_deadline_ms: int = limits.HEAD_DEADLINE_MS
    """From the first byte to the end of the head; later: 408 and closed."""
    body_deadline_ms: int = limits.BODY_DEADLINE_MS
    """From the end of the head to the end of the body; later: 408 and closed."""
    body_rate_bytes_per_s_min: int = limits.BODY_RATE_BYTES_PER_S_MIN
    """A body that comes slower is given up: 408 and closed. 0 sets no rate."""
    send_stall_ms: int = limits.SEND_STALL_MS
    """A client that takes nothing for so long is closed, and its upstream with it."""
    keep_alive_idle_ms: int = limits.KEEP_ALIVE_IDLE_MS
    """An idle connection is closed after it."""
    connections_max: int = limits.CONNECTIONS_MAX
    """More are refused with 503 and closed."""
    connections_per_address_max: int = limits.CONNECTIONS_PER_ADDRESS_MAX
    """More from one address are refused."""
    calls_in_flight_max: int = limits.CALLS_IN_FLIGHT_MAX
    """More are refused with 503 and Retry-After."""


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway]``: the data-plane listener."""

    listen: str = "127.0.0.1:8080"
    """host:port."""
    control: str = ""
    """Where control is: empty for the socket in the state folder, ``unix:PATH`` or ``tls://host:port``."""
    link_token: str = ""
    """Reference to the shared secret of a TLS link."""
    link_ca: str = ""
    """PEM file that must have signed control's certificate; empty for the system's."""
    snapshot_grace_s: int = limits.SNAPSHOT_GRACE_S
    """How long a gateway serves from its last snapshot while control is away; then it refuses."""
    spool_disk_bytes_max: int = limits.SPOOL_DISK_BYTES_MAX
    """Facts waiting for control on disk; over it new rows are shed and counted."""
    upstream_client: str = "headway"
    """What speaks HTTP to providers: ``headway``, or ``aiohttp``, which costs more and honours proxies in the environment (HTTPS_PROXY)."""
    phases: bool = True
    """Note when each read of a streamed answer came, and look for streams that loop, break off or go silent."""
    drain_s: int = 30
    """How long running streams may finish after a stop was asked for."""
    limits: Limits = Limits()


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[control]``: API and board."""

    listen: str = "127.0.0.1:8090"
    hosts: tuple[str, ...] = ()
    """Further names under which browsers reach the board, besides IP addresses, localhost and this machine's own name."""
    store: str = ""
    """SQLAlchemy address of the ledger; empty is SQLite in the state folder."""
    link_listen: str = ""
    """Empty for the socket in the state folder, or ``tls://host:port`` for gateways elsewhere."""
    link_token: str = ""
    link_certificate: str = ""
    """PEM file that control shows to gateways elsewhere."""
    link_key: str = ""
    """PEM file of its private key."""
    otlp_endpoint: str = ""
    """OTLP/HTTP collector for spans; empty exports none."""
    facts_keep_days: int = 90
    """Older facts are deleted."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.timeouts]``."""

    connect_ms: int = limits.CONNECT_TIMEOUT_MS
    """To a socket that stands."""
    first_byte_ms: int = limits.FIRST_BYTE_TIMEOUT_MS
    """From there to the first byte of the answer."""
    idle_ms: int = limits.IDLE_TIMEOUT_MS
    """Between two reads of a body."""
    total_ms: int = limits.TOTAL_TIMEOUT_MS
    """The whole exchange."""


class AdmissionCapacity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.admission.capacity]``: what fits at once. What is not told is learnt from the engine or from rate-limit headers."""

    hosted: bool | None = None
    """Requests and tokens a minute are the scarce thing, not places on an engine. Unset: by preset."""
    requests_max: int | None = None
    """Requests at once; more wait here. Unset: 128 at engines of your own, 4,096 at hosted ones; an engine that tells its slots lowers it."""
    tokens_max: int | None = None
    """KV tokens of all in flight, prompt and expected output. Unset: what the engine tells, or no bound."""
    requests_per_minute: int | None = None
    """Hosted: unset is learnt from headers and from 429s; set, the lower of both holds."""
    tokens_per_minute: int | None = None


class AdmissionLong(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.admission.long]``: the lane of long prompts, which are limited in sum."""

    prompt_tokens_over: int = 2_048
    """A prompt of more tokens than this, those in the cache aside, is long."""
    requests_max: int = 1
    """Long prompts that are read at once."""
    engine_step_share: bool = False
    """The engine itself limits long prompts (vLLM's long-prefill threshold) or has a pool for them: they are not paced here."""


class AdmissionPacing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.admission.pacing]``: long prompts go as a growing prefix, in pieces that let small requests in between."""

    on: bool | None = None
    """Unset: on for llama.cpp, vLLM and SGLang, which keep a prefix cache and cost nothing a piece; off elsewhere."""
    stall_ms: float = 250.0
    """What one piece may keep the engine."""
    piece_tokens_min: int = 32
    piece_tokens_max: int = 2_048
    prefill_tokens_per_s: float = 0.0
    """Assumed until it was measured; 0 begins with the smallest piece."""
    delay_factor_max: float = 2.0
    """So many times what it would take alone may a long prompt take; then it no longer waits for small requests."""


class AdmissionRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.admission.run]``: all calls of one run (x-headway-run) draw on one bucket."""

    concurrency_max: int = 8
    tokens_per_s: float | None = None
    """Unset: no rate."""
    burst_tokens: int = 20_000


class Admission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.admission]``: how calls of all tenants share this provider. Without the table they go as they come."""

    policy: str = "lanes"
    """lanes, fair, fcfs or shortest."""
    prompt_price: float = 1.0
    """Virtual tokens of one prompt token that is not in the cache."""
    output_price: float = 2.0
    """Virtual tokens of one output token."""
    priority: bool = False
    """The engine was started with priority scheduling: each call carries its class's priority (vLLM lower first, SGLang higher first), and
    long prompts are not paced."""
    load_every_ms: int = 1_000
    """How often the engine is asked for its load (/metrics, /slots), where it has such a page; 0 never."""
    passes_max: int = 8
    """A call that does not fit is passed so often; then smaller ones wait until it fits."""
    passes_ms_max: float = 2_000.0
    age_ms_max: float = 10_000.0
    """After so long no other call of its tenant goes before it."""
    queued_max: int = 10_000
    """More calls are refused with 429 and Retry-After."""
    queued_per_tenant_max: int = 2_000
    wait_ms_max: float | None = None
    """A call whose wait is forecast to be longer is refused at once. Unset: only its own deadline counts."""
    refuse: bool = True
    """False: no call is refused for its forecast."""
    capacity: AdmissionCapacity = AdmissionCapacity()
    long: AdmissionLong = AdmissionLong()
    pacing: AdmissionPacing = AdmissionPacing()
    run: AdmissionRun = AdmissionRun()


class ProviderProbes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME.probes]``: what is different at this provider. Unset values are those of ``[probes]``."""

    on: bool | None = None
    models: tuple[str, ...] = ()
    """Models that are probed. Empty: those that features name here, else those listed under models."""
    every_s: int | None = None
    usd_per_day: float | str | None = None
    """A cap of this provider's own, within the one of all."""
    unpriced: bool | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME]``: somewhere models answer."""

    preset: str = "openai"
    """openai, azure, anthropic, vllm, sglang, llama.cpp, ollama, openrouter, mistral, gemini or bedrock."""
    base_url: str = ""
    """Overrides the preset's. With or without a trailing /v1 as the provider documents it."""
    base_urls: tuple[str, ...] = ()
    """Replicas of one engine; each is an endpoint of its own."""
    key: str = ""
    """Reference to the key."""
    dialect: str = ""
    """Overrides the preset's: openai-chat, openai-responses or anthropic."""
    region: str = ""
    """Where it answers: noted in facts, and part of some presets' addresses."""
    api_version: str = ""
    """Azure: addresses deployments with this version; empty uses its version-free API."""
    organization: str = ""
    """OpenAI: sent as openai-organization."""
    models: tuple[str, ...] = ()
    """Models that can be called here; empty asks the provider where it lists them."""
    headers: dict[str, str] = {}
    """Fixed headers sent with each call; values may be secret references."""
    timeouts: Timeouts = Timeouts()
    deadline_header: str = ""
    """Header in which this provider is told how many milliseconds are left: for services of your own that give up in time, e.g.
    x-request-timeout-ms. Headway counts them; what a caller sends never gets there. Empty tells nobody."""
    retries_max: int = 2
    """Further tries of one call at this provider, within the retry budget of all calls."""
    slots: int = 0
    """llama.cpp's number of parallel slots (``-np``): pieces of one prompt then keep to one slot. 0 leaves the choice to the engine."""
    image_tokens_max: int | None = None
    """The most tokens that one image can cost here, for what a budget reserves. Without it: what the preset's provider says, else 16,384."""
    files_tenant: str = ""
    """The one tenant that may use this provider's file routes: its account knows no tenants."""
    admission: Admission | None = None
    """How calls share this provider; the table alone, even empty, turns it on."""
    price_as: str = ""
    """Provider id in the price table where it differs from the preset's; ``free`` for a model of your own."""
    probes: ProviderProbes = ProviderProbes()


class Tenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tenants.NAME]``: who pays and who shares."""

    weight: float = 1.0
    """Share of what is scarce, relative to the other tenants'."""
    klass: str = msgspec.field(default="interactive", name="class")
    """interactive or batch."""
    floor_tokens: int = 0
    """Tokens in flight up to which this tenant goes before all that have theirs; 0 is none."""
    cap_tokens: int | None = None
    """Tokens in flight (prompt, and output at its price) that it never passes at one endpoint."""
    on_overrun: str = "cut"
    """Past budget_tokens_per_day: ``cut`` refuses with 429; at providers with an admission table, ``demote`` serves it when nobody else
    waits, ``pause`` lets it wait until the day ends. Both count by gateway."""
    budget_usd_per_day: float | str | None = None
    """Dollars a day (UTC), a number or an exact text such as "0.25"; calls are refused with 429 at the cap."""
    budget_usd_per_month: float | str | None = None
    budget_tokens_per_day: int | None = None
    budget_tokens_per_month: int | None = None
    features: tuple[str, ...] = ()
    """Features it may call; empty is all."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[features.NAME] record``: opt in to keep text, redacted, for so many days."""

    text: bool = False
    """Keep prompts and answers of this feature."""
    keep_days: int = 7
    """After so many days they are deleted."""
    redact: tuple[str, ...] = ("email", "card", "phone", "key")
    """What is blanked before anything is stored: email, card, phone, key."""


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[features.NAME]``: what clients name as the model."""

    targets: tuple[str, ...] = ()
    """``provider/model`` in order of service."""
    deadline_ms: int | None = None
    """A call that has no answer by then is given up with 504; x-headway-deadline-ms can only shorten it."""
    max_output_tokens: int | None = None
    """The most a call may answer that names no maximum: sent upstream, and reserved where a budget applies. Without it 4,096 are, there."""
    strict: bool = False
    """Refuse a call rather than lose a part of it between dialects."""
    record: Record = Record()


class ClassObjective(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[classes.NAME]``: what callers of a class (interactive, batch) may expect; the board tells when it is broken, and for whom."""

    first_token_ms: float = 2_000.0
    """Time from arrival to the first token."""
    share: float = 0.95
    """Part of the calls that must keep it."""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[state]``: where both processes keep what must survive."""

    dir: str = ".headway"
    """Relative to the folder of headway.toml."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[facts]``: where rows of what happened are kept. One machine needs none of it."""

    store: str = "parquet"
    """parquet, a folder in the state folder that one control process owns; or ducklake, for many: a catalog in Postgres, Parquet on S3 or in a
    folder that all of them share. It needs the extra headway[ducklake]."""
    bytes_max: int | None = None
    """Facts that pass it go, oldest first, before their days are over. Unset: no bound."""
    catalog: str = ""
    """DuckLake: the Postgres of the catalog, an address or a reference to one. Empty: the ledger's, control.store."""
    catalog_schema: str = "headway_facts"
    """DuckLake: its schema there."""
    data: str = ""
    """DuckLake: s3://BUCKET/PREFIX or the absolute path of a folder."""
    s3_endpoint: str = ""
    """http://HOST:PORT or https://HOST of an S3 that is not Amazon's."""
    s3_region: str = "us-east-1"
    s3_key: str = ""
    """Reference to the access key's id."""
    s3_secret: str = ""
    """Reference to the access key's secret."""


class Shared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[shared]``: what several gateways in front of the same endpoints share, so that tenants are served fairly over all of them."""

    url: str = ""
    """Valkey or Redis: a reference (``env:NAME``, ``file:PATH``) to redis://, rediss:// or unix://; it often holds a password. Empty: each gateway
    shares out by itself. Needs the extra headway[shared]."""
    prefix: str = "headway:"
    """Of every key that is written there."""


class Probes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[probes]``: small fixed calls of our own to each provider and model, short and long, cold and warm: a control group. They cost money."""

    on: bool = False
    """Send them on a schedule. ``headway probes run-once`` works without."""
    tenant: str = "probes"
    """Who is charged."""
    every_s: int = 600
    """Between two rounds of one route: four calls, one after the other. Rounds lie further apart where the day's money would not last."""
    usd_per_day: float | str = "1"
    """Dollars a day (UTC) of all probes, a number or an exact text such as "0.25". What a round can cost at most must fit."""
    unpriced: bool = False
    """Probe models whose price is unknown too: what they cost counts towards no cap."""
    long_tokens: int = 1_500
    """About so many tokens has a long prompt: more than providers need before they cache one, which is 1,024 at most of them."""
    gateway: str = ""
    """Where the calls go in: http://HOST:PORT. Empty: gateway.listen, as reached from here."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    gateway: Gateway = Gateway()
    control: Control = Control()
    state: State = State()
    shared: Shared = Shared()
    facts: Facts = Facts()
    probes: Probes = Probes()
    providers: dict[str, Provider] = {}
    features: dict[str, Feature] = {}
    tenants: dict[str, Tenant] = {}
    classes: dict[str, ClassObjective] = {}
    open_access: bool = False
    """Calls without a key are let in as tenant ``default`` from loopback only; what ``make run`` uses."""
