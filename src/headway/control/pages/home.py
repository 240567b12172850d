"""Home: is anything wrong, and what do I do first?"""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.admission import ALARM_RANGE_MS
from headway.control.api.estate import budgets_of
from headway.control.deps import Deps, Use, Viewer
from headway.control.pages import attention
from headway.control.pages.attention import Attention
from headway.control.pages.ranges import DAY_MS, MINUTE_MS, RANGES, Range, range_named
from headway.control.pages.render import show
from headway.control.ports import AWAY, Bucket, GatewayView, Generation, Group, Overview
from headway.ledger.model import BudgetState

router = APIRouter()
RECENT_MINUTES = 15
ALARMS_SHOWN = 3


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A feature or tenant with the interval of its failed share."""

    group: Group
    failed_low: float
    failed_high: float
    tone: str


class HomePage(msgspec.Struct, frozen=True, kw_only=True):
    """``problem`` says why figures are missing; ``first_call`` is the line to run while nothing has called."""

    tone: str
    sentence: str
    attention: tuple[Attention, ...]
    range: Range
    ranges: tuple[Range, ...]
    overview: Overview | None
    total: Row | None
    today: Group | None
    features: tuple[Row, ...]
    tenants: tuple[Row, ...]
    gateways: tuple[GatewayView, ...]
    budgets: tuple[BudgetState, ...]
    in_flight: int
    first_call: str
    problem: str = ""


def filled(group: Group, overview: Overview) -> Group:
    """The group with a bucket for every step of the range, so that a quiet hour shows as one."""
    step = overview.bucket_ms
    seen = {bucket.start_wall_ms: bucket for bucket in group.series}
    starts = range(overview.since_wall_ms // step * step, overview.until_wall_ms, step)
    return msgspec.structs.replace(group, series=tuple(seen.get(start) or Bucket(start_wall_ms=start) for start in starts))


def whole(overview: Overview) -> Overview:
    """Every series of the overview ``filled``."""
    return msgspec.structs.replace(
        overview,
        total=filled(overview.total, overview),
        features=tuple(filled(group, overview) for group in overview.features),
        tenants=tuple(filled(group, overview) for group in overview.tenants),
    )


def as_row(group: Group) -> Row:
    """With the interval, and the tone that its lower end deserves."""
    low, high = attention.failed_interval(group.failed, group.calls)
    tone = "bad" if low >= attention.FAILED_SHARE_BAD else "warn" if low >= attention.FAILED_SHARE_WARN else "ok"
    return Row(group=group, failed_low=low, failed_high=high, tone=tone)


def rows_of(groups: tuple[Group, ...]) -> tuple[Row, ...]:
    """Worst first: by the lower end of the failed share, then by calls."""
    return tuple(sorted((as_row(g) for g in groups), key=lambda r: (-r.failed_low if r.tone != "ok" else 0.0, -r.group.calls)))


def callable_features(found: Generation, tenant: str) -> tuple[str, ...]:
    """Names of features that ``tenant`` may call, all for the empty one: others are no business of who is bound to it."""
    confined = next((t.features for t in found.tenants if tenant and t.name == tenant), ())
    return tuple(f.name for f in found.features if not confined or f.name in confined)


def first_call_line(use: Deps, tenant: str, key: str = "") -> str:
    """A call of ``tenant`` that works against the configuration in force, with ``key`` where one is known."""
    found = use.configuration.generation()
    model = next(iter(callable_features(found, tenant)), "PROVIDER/MODEL")
    body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).decode()
    shown = key or ("" if found.open_access else "YOUR_KEY")
    header = f" \\\n  -H 'authorization: Bearer {shown}'" if shown else ""
    return f"curl {use.gateway_address}/v1/chat/completions -H 'content-type: application/json'{header} \\\n  -d '{body}'"


async def gathered(use: Deps, who: Who, chosen: Range) -> HomePage:
    """The page for one caller; what is away is named in ``problem`` and the rest is shown."""
    now = use.clock()
    problems: list[str] = []
    overview = recent = today = None
    try:
        overview = whole(await use.facts.overview(now - chosen.length_ms, now, chosen.bucket_ms, who.tenant))
        recent = await use.facts.overview(now - RECENT_MINUTES * MINUTE_MS, now, RECENT_MINUTES * MINUTE_MS, who.tenant)
        today = (await use.facts.overview(now - now % DAY_MS, now, DAY_MS, who.tenant)).total
    except AWAY as away:
        problems.append(str(away))
    budgets: tuple[BudgetState, ...] = ()
    try:
        budgets = await budgets_of(use, who)
    except AWAY as away:
        problems.append(str(away))
    everywhere = not who.tenant
    found, gateways = use.configuration.generation(), tuple(use.gateways.gateways()) if everywhere else ()
    things: list[Attention] = [*attention.of_budgets(budgets, now)]
    if everywhere:
        things += attention.of_gateways(gateways, found.number, now)
        things += attention.of_generation(found)
        things += [Attention(tone="warn", what=what) for what in use.health.degraded()]
        things += attention.of_objectives(use.admission.alarms()[:ALARMS_SHOWN], ALARM_RANGE_MS // MINUTE_MS)
    if recent:
        things += attention.of_failures(recent, RECENT_MINUTES)
    if today:
        things += attention.of_costs(today)
    things_sorted = attention.worst_first(things)
    in_flight = sum(1 for call in use.live.in_flight() if who.sees(call.tenant))
    ever = (
        bool(overview and overview.newest_wall_ms is not None) or in_flight > 0 or any(who.sees(c.tenant) for c in use.live.ended())
    )
    tone, sentence = attention.sentence(things_sorted, recent, RECENT_MINUTES, ever)
    return HomePage(
        tone=tone,
        sentence=sentence,
        attention=things_sorted,
        range=chosen,
        ranges=RANGES,
        overview=overview,
        total=as_row(overview.total) if overview else None,
        today=today,
        features=rows_of(overview.features) if overview else (),
        tenants=rows_of(overview.tenants) if overview else (),
        gateways=gateways,
        budgets=budgets,
        in_flight=in_flight,
        first_call="" if ever else first_call_line(use, who.tenant),
        problem="; ".join(problems),
    )


@router.get("/")
async def home(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    chosen = range_named(request.query_params.get("range", "24h"))
    return show(request, who, "home.html", "Home", await gathered(use, who, chosen))
