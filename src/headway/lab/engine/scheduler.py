"""What one replica computes in a step: vLLM V1's loop on counts (scheduling.md 3.2).

Decodes first, one token each; then running prefills, a chunk each; then waiting requests while tokens, sequences and blocks allow.
"""

from headway.kernel.limits import LAB_SKIPPED_PER_STEP_MAX
from headway.lab.engine.blocks import BlockPool, chain_keys, own_key
from headway.lab.engine.decodes import Decodes
from headway.lab.engine.model import EngineEvent, EngineRequest, EngineSettings, StepWork
from headway.lab.engine.sequence import DECODE, GONE, PREFILL, WAITING, Sequence
from headway.lab.engine.settings import EngineRefusal, checked
from headway.lab.engine.waiting import Entry, Waiting


class StepScheduler:
    """``plan`` the next step, then ``complete`` it; between the two nothing else is called."""

    def __init__(self, settings: EngineSettings, *, token_events: bool = False) -> None:
        self.settings = checked(settings)
        self.pool = BlockPool(settings.kv_blocks)
        self.preemptions = 0
        self.prompt_tokens_queried = 0
        """Prompt tokens looked up in the prefix cache, at each admission."""
        self.prompt_tokens_cached = 0
        """Of those, found."""
        self.tokens_produced = 0
        self.tokens_prefilled = 0
        self._token_events = token_events
        self._block = settings.block_tokens
        self._long = settings.long_prefill_tokens_max
        self._members: dict[str, Sequence] = {}
        self._queue = Waiting(by_priority=settings.priority)
        self._running: dict[Sequence, None] = {}
        self._prefilling: dict[Sequence, None] = {}
        self._decodes = Decodes(settings.block_tokens)
        self._submitted = 0
        self._decode_steps_since_prefill = 0
        self._decoding_now = False
        self._chunks: dict[Sequence, tuple[int, int]] = {}
        self._thrown_out: list[Sequence] = []
        self._arrivals: dict[str, Sequence] = {}
        """Seen from the next but one plan on."""
        self._leavers: list[Sequence] = []
        """Finished, and seen to be so from the next but one plan on."""

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._arrivals)

    @property
    def running(self) -> int:
        return len(self._running) + len(self._leavers)

    @property
    def busy(self) -> bool:
        return bool(self._members)

    @property
    def chunk_ids(self) -> tuple[str, ...]:
        """Whose chunks the last planned step computes, in the order of its work."""
        return tuple(seq.id for seq in self._chunks)

    def produced(self, request_id: str) -> int:
        """Output tokens so far of a request that is in the engine; KeyError for others."""
        seq = self._members[request_id]
        return self._decodes.produced(seq) if seq.state == DECODE else seq.base

    def submit(self, request: EngineRequest, *, late: bool = False) -> None:
        """``late``: the next plan does not know of it yet. EngineRefusal for a request that can never run, or whose id is in the engine."""
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise EngineRefusal(f"request {request.id}: prompt and output are at least one token each")
        if request.id in self._members:
            raise EngineRefusal(f"request {request.id} is in the engine already")
        most = self._blocks(request.prompt_tokens + request.output_tokens - 1)
        if most > self.pool.capacity:
            raise EngineRefusal(f"request {request.id} needs {most} blocks, the engine has {self.pool.capacity}: it can never run")
        whole = request.prompt_tokens // self._block
        keys = chain_keys(request.blocks[:whole]) if self.settings.prefix_cache else ()
        self._submitted += 1
        seq = Sequence(request, keys, self._submitted)
        self._members[seq.id] = seq
        if late:
            self._arrivals[seq.id] = seq
        else:
            self._queue.add(seq)

    def abort(self, request_id: str) -> None:
        """Forget a request wherever it is. One that is not there is no fault: it may just have finished."""
        seq = self._members.pop(request_id, None)
        if seq is None:
            return
        if seq.state != WAITING:
            self._leave(seq)
        elif self._arrivals.pop(request_id, None) is None:
            self._queue.remove(request_id)
        seq.state = GONE
        if not self._members:
            self._catch_up()

    # -- a step

    def plan(self) -> StepWork:
        """Choose the next step's work and take its blocks."""
        self._chunks = {}
        self._thrown_out = []
        self._decoding_now = False
        self._choose()
        if self._catch_up() and not self._chunks and not self._decodes.count:
            self._choose()
        ending = sum(seq.computed == seq.target for seq in self._chunks)
        decodes = self._decodes.count if self._decoding_now else 0
        return StepWork(
            chunks=tuple(self._chunks.values()),
            decodes=decodes,
            decode_context=self._decodes.context if decodes else 0,
            sequences=decodes + ending,
            decode_context_max=self._decodes.context_max if decodes else 0,
        )

    def _choose(self) -> None:
        if self.settings.chunked_prefill:
            self._plan_mixed()
        else:
            self._plan_whole()

    def _catch_up(self) -> bool:
        """See what the plan just made did not know of. True when there was something."""
        late = bool(self._arrivals or self._leavers)
        for seq in self._leavers:
            self._free(seq)
        self._leavers.clear()
        for seq in self._arrivals.values():
            self._queue.add(seq)
        self._arrivals.clear()
        return late

    def complete(self, at: int) -> list[EngineEvent]:
        """The planned step ended at ``at``: what it produced."""
        events = [_event(at, seq, "preempted", seq.base) for seq in self._thrown_out]
        decodes = self._decodes
        finished: list[Sequence] = []
        if self._decoding_now:
            finished = decodes.complete()
            self.tokens_produced += decodes.count
            if self._token_events:
                events += [_event(at, seq, "token", decodes.produced(seq)) for seq in self._running if seq.state == DECODE]
        for seq in self._chunks:
            self._publish(seq)
            if seq.computed == seq.target:
                self._end_prefill(seq, at, events)
                if seq.base == seq.output:
                    finished.append(seq)
                else:
                    del self._prefilling[seq]
                    decodes.join(seq)
        for seq in finished:
            self._leave(seq, late=self.settings.plan_ahead)
            seq.state = GONE
            del self._members[seq.id]
            events.append(_event(at, seq, "finished", seq.output))
        if not self._members:
            self._catch_up()
        return events

    def _end_prefill(self, seq: Sequence, at: int, events: list[EngineEvent]) -> None:
        seq.base += 1
        self.tokens_produced += 1
        if not seq.told_first:
            seq.told_first = True
            events.append(EngineEvent(at=at, id=seq.id, kind="first", cached_tokens=seq.cached, output_tokens=seq.base))
        elif self._token_events:
            events.append(_event(at, seq, "token", seq.base))

    def _plan_mixed(self) -> None:
        self._grant_decodes()
        tokens = self._continue_prefills(self.settings.step_tokens_max - self._decodes.count)
        if not self._thrown_out or not (self._decodes.count or self._chunks):
            self._admit(tokens)

    def _plan_whole(self) -> None:
        due = self._decode_steps_since_prefill >= self.settings.decode_steps_between_prefills
        if due or not self._decodes.count:
            self._admit_whole()
        if not self._chunks:
            self._grant_decodes()
            self._decode_steps_since_prefill += 1
            if not self._decodes.count:
                self._admit_whole()
        if self._chunks:
            self._decoding_now = False
            self._decode_steps_since_prefill = 0

    def _grant_decodes(self) -> None:
        wanted = self._decodes.blocks_wanted
        while wanted() > self.pool.available:
            self._throw_out(self._victim())
        self.pool.take(wanted())
        self._decodes.grant()
        self._decoding_now = True

    def _continue_prefills(self, tokens: int) -> int:
        for seq in list(self._prefilling):
            if tokens <= 0:
                break
            if seq.state != PREFILL:
                continue
            chunk = self._chunk(seq.target - seq.computed, tokens)
            wanted = self._blocks(seq.computed + chunk) - self._blocks(seq.computed)
            while wanted > self.pool.available and seq.state == PREFILL:
                tokens += self._throw_out(self._victim())
            if seq.state == PREFILL:
                tokens -= self._compute(seq, chunk, wanted)
        return tokens

    def _admit(self, tokens: int) -> None:
        passed: list[Entry] = []
        queue, settings = self._queue, self.settings
        while tokens > 0 and self.running < settings.sequences_max and len(passed) <= LAB_SKIPPED_PER_STEP_MAX:
            seq = queue.head()
            if seq is None:
                break
            hit = self.pool.match(seq.keys, (seq.target - 1) // self._block)
            if self._too_many_long(seq.target - hit * self._block):
                passed.append(queue.set_aside())
                continue
            chunk = self._chunk(seq.target - hit * self._block, tokens)
            if not self._fits(seq, hit, chunk):
                if not settings.skip_blocked_head:
                    break
                passed.append(queue.set_aside())
                continue
            queue.pop()
            tokens -= self._start(seq, hit, chunk)
        for entry in passed:
            queue.put_back(entry)

    def _admit_whole(self) -> None:
        """Whole prompts while the step's tokens allow; one alone may be longer than the step."""
        passed: list[Entry] = []
        queue, settings = self._queue, self.settings
        tokens = settings.step_tokens_max
        while self.running < settings.sequences_max and len(passed) <= LAB_SKIPPED_PER_STEP_MAX:
            seq = queue.head()
            if seq is None:
                break
            hit = self.pool.match(seq.keys, (seq.target - 1) // self._block)
            chunk = seq.target - hit * self._block
            if (self._chunks and chunk > tokens) or not self._fits(seq, hit, chunk):
                if not settings.skip_blocked_head:
                    break
                passed.append(queue.set_aside())
                continue
            queue.pop()
            tokens -= self._start(seq, hit, chunk)
        for entry in passed:
            queue.put_back(entry)

    # -- parts of a step

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._block)

    def _chunk(self, rest: int, tokens: int) -> int:
        return min(rest, tokens) if self._long is None else min(rest, tokens, self._long)

    def _too_many_long(self, rest: int) -> bool:
        most, long = self.settings.long_prefills_max, self._long
        if most is None or long is None or rest <= long:
            return False
        return sum(seq.target - seq.begun > long for seq in self._prefilling) >= most

    def _fits(self, seq: Sequence, hit: int, chunk: int) -> bool:
        pool, settings = self.pool, self.settings
        upto = seq.target if settings.reserve_prompt else hit * self._block + chunk
        wanted = self._blocks(upto) - hit
        if wanted > pool.available or wanted + pool.idle_among(seq.keys[:hit]) > pool.available:
            return False
        return not settings.reserve_output or not self.running or self._peak(seq) <= pool.capacity

    def _peak(self, seq: Sequence) -> int:
        """The most blocks that those running and ``seq`` hold at any later step, if nobody else comes."""
        late = int(self.settings.plan_ahead)  # steps that a place is held after its last token
        loads = [self._load(member, late) for member in (*self._running, seq)]
        loads += [(late, member.computed) for member in self._leavers]
        loads.sort(reverse=True)
        peak = held = 0
        for count, (left, tokens) in enumerate(loads, 1):
            held += tokens
            peak = max(peak, held + left * count + (self._block - 1) * count)
        return peak // self._block

    def _load(self, seq: Sequence, late: int) -> tuple[int, int]:
        """(decode steps to come, tokens in KV before them). The last token is never in KV: the step that ends a prefill adds none."""
        if seq.state == DECODE:
            return seq.output - self._decodes.produced(seq) + late, self._decodes.tokens(seq)
        return seq.output - seq.base - 1 + late, seq.target

    def _start(self, seq: Sequence, hit: int, chunk: int) -> int:
        keys = seq.keys[:hit]
        self.pool.hold(keys)
        seq.held = list(keys)
        seq.published = hit
        seq.begun = seq.computed = hit * self._block
        if self.settings.prefix_cache and not seq.told_first:
            self.prompt_tokens_queried += seq.prompt
            self.prompt_tokens_cached += seq.computed
            seq.cached = seq.computed
        seq.state = PREFILL
        self._running[seq] = None
        self._prefilling[seq] = None
        return self._compute(seq, chunk, self._blocks(seq.computed + chunk) - hit)

    def _compute(self, seq: Sequence, chunk: int, blocks: int) -> int:
        self.pool.take(blocks)
        self._chunks[seq] = (chunk, seq.computed)
        seq.computed += chunk
        self.tokens_prefilled += chunk
        return chunk

    def _publish(self, seq: Sequence) -> None:
        whole = min(seq.computed // self._block, len(seq.keys))
        for key in seq.keys[seq.published : whole]:
            if self.pool.publish(key):
                seq.held.append(key)
        seq.published = max(seq.published, whole)

    def _victim(self) -> Sequence:
        if self.settings.priority:
            return max(self._running, key=_badness)
        return next(reversed(self._running))

    def _throw_out(self, seq: Sequence) -> int:
        """Preempt: its blocks are free, it starts again later. Tokens of this step that are free again."""
        chunk = self._chunks.pop(seq, None)
        freed = chunk[0] if chunk else int(seq.state == DECODE)
        if chunk:
            seq.computed -= chunk[0]
            self.pool.give(self._blocks(seq.computed + chunk[0]) - self._blocks(seq.computed))
        self._leave(seq, remember=self.settings.prefix_cache)
        seq.state = WAITING
        seq.target = seq.prompt + seq.base
        seq.computed = 0
        self._queue.add_front(seq)
        self._thrown_out.append(seq)
        self.preemptions += 1
        return freed

    def _leave(self, seq: Sequence, *, remember: bool = False, late: bool = False) -> None:
        """A running request gives everything back.

        ``remember`` leaves all its whole blocks in the cache, for when it comes again; ``late`` keeps its place until the plan after
        the next.
        """
        if seq.state == DECODE:
            self._decodes.leave(seq)
        else:
            del self._prefilling[seq]
        if remember:
            whole = seq.computed // self._block
            seq.keys += tuple(own_key(seq.order, i) for i in range(len(seq.keys), whole))
            self._publish(seq)
        del self._running[seq]
        if late:
            self._leavers.append(seq)
        else:
            self._free(seq)

    def _free(self, seq: Sequence) -> None:
        self.pool.give(self._blocks(seq.computed) - len(seq.held))
        self.pool.release(seq.held)
        seq.held = []


def _badness(seq: Sequence) -> tuple[int, int]:
    return seq.priority, seq.order


def _event(at: int, seq: Sequence, kind: str, output_tokens: int) -> EngineEvent:
    return EngineEvent(at=at, id=seq.id, kind=kind, output_tokens=output_tokens)
