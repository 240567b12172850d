"""A scheduler with a server of a few lines behind it: every running call produces one token a tick. For tests of admission's invariants.

True service is counted as VTC counts it: a prompt when it is sent, each output token as it is produced, at the endpoint's prices.
"""

from collections import defaultdict
from collections.abc import Mapping

from headway.calls.admission.model import EndpointAdmission, Share
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.admission.state import Call
from headway.calls.conversation import DialectName
from headway.calls.model import Arrived
from headway.kernel.instants import NS_PER_MS, MonoNs

TICK_NS = 10 * NS_PER_MS


def arrived(
    call: str, tenant: str, *, prompt: int = 100, most: int | None = 200, deadline_ms: float | None = None, **fields: object
) -> Arrived:
    return Arrived(
        call=call,
        endpoint="e",
        tenant=tenant,
        klass=str(fields.pop("klass", "interactive")),
        feature=str(fields.pop("feature", "chat")),
        dialect=DialectName.OPENAI_CHAT,
        prompt_tokens_estimate=prompt,
        prompt_tokens_error=0.1,
        output_tokens_max=most,
        deadline_remaining_ms=deadline_ms,
        **fields,  # type: ignore[arg-type]
    )


class Truth:
    """What a call really needs."""

    __slots__ = ("left", "output", "prompt")

    def __init__(self, prompt: int, output: int) -> None:
        self.prompt, self.output, self.left = prompt, output, output


class Stage:
    def __init__(self, settings: EndpointAdmission, shares: Mapping[str, Share] | None = None, **how: object) -> None:
        self.settings = settings
        self.scheduler = Scheduler(settings, shares or {}, **how)  # type: ignore[arg-type]
        self.now = MonoNs(0)
        self.truth: dict[str, Truth] = {}
        self.running: dict[str, Call] = {}
        self.sent: list[str] = []
        self.sent_at: dict[str, MonoNs] = {}
        self.service: defaultdict[str, float] = defaultdict(float)
        self.most_outstanding: defaultdict[str, float] = defaultdict(float)
        self.most_cost = 0.0
        self.made = 0

    def cost(self, prompt: float, output: float) -> float:
        return self.settings.prompt_price * prompt + self.settings.output_price * output

    def arrive(
        self, tenant: str, *, prompt: int, output: int, believed: int | None = None, most: int | None = None, **fields: object
    ) -> str:
        """``believed`` of its prompt; the truth is ``prompt`` and ``output``. Returns its name."""
        self.made += 1
        name = f"{tenant}/{self.made}"
        believed = prompt if believed is None else believed
        result = self.scheduler.arrive(arrived(name, tenant, prompt=believed, most=most, **fields), self.now)
        if isinstance(result, Call):
            self.truth[name] = Truth(prompt, output)
            self.most_cost = max(self.most_cost, result.cost, self.cost(prompt, output))
        else:
            assert isinstance(result, Refused)
        return name

    def pump(self) -> list[str]:
        """Send whoever may go. Prompts are read at once."""
        sent: list[str] = []
        self.scheduler.wake(self.now)
        while (call := self.scheduler.pick(self.now)) is not None:
            sent.append(call.id)
            self.running[call.id] = call
            self.sent_at[call.id] = self.now
            self.service[call.tenant.name] += self.cost(self.truth[call.id].prompt, 0)
            self.scheduler.read(call.id, self.now)
        self.sent += sent
        self._measure()
        return sent

    def tick(self, ticks: int = 1) -> None:
        """Every running call gets a token; those that have all of theirs end, and others go."""
        for _ in range(ticks):
            self.now = MonoNs(self.now + TICK_NS)
            for name, call in list(self.running.items()):
                truth = self.truth[name]
                truth.left -= 1
                self.service[call.tenant.name] += self.cost(0, 1)
                self.scheduler.produced(name, 1, self.now)
                if truth.left <= 0:
                    self.end(name, Used(truth.prompt, truth.output, 0))
            self._measure()
            self.pump()

    def end(self, name: str, used: Used) -> None:
        del self.running[name]
        self.scheduler.close(name, self.now, used)

    def _measure(self) -> None:
        """O of invariant 2: the most that was outstanding of each tenant, at the larger of estimate and truth."""
        held: defaultdict[str, float] = defaultdict(float)
        for name, call in self.running.items():
            truth = self.truth[name]
            held[call.tenant.name] += max(call.outstanding, self.cost(truth.prompt, truth.output))
        for tenant, tokens in held.items():
            self.most_outstanding[tenant] = max(self.most_outstanding[tenant], tokens)

    def backlogged(self, tenant: str) -> bool:
        known = self.scheduler.tenants.get(tenant)
        return known is not None and known.queued > 0
