"""The board's ``Facts`` port over the fact tables: the same questions in the words of ``ports.py``."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport
from headway.control.ports import Away, CallFilter, Overview, StoredCall
from headway.facts.answers import AdmissionQuery, CallQuery, FactsAway, Stalled
from headway.facts.model import CallFact
from headway.facts.table import FactTable
from headway.kernel.instants import WallMs, wall_ms

Shape = TypeVar("Shape", bound=msgspec.Struct)


class StoredFacts:
    """Answers from Parquet. Every method raises ``Away`` when the facts cannot be read now."""

    def __init__(self, table: FactTable, wall: Callable[[], WallMs] = wall_ms) -> None:
        self._table, self._wall = table, wall

    async def calls(self, where: CallFilter, before: str, limit: int) -> Sequence[CallFact]:
        query = CallQuery(
            tenant=where.tenant,
            feature=where.feature,
            outcome=where.state,
            model=where.model,
            origin=where.origin,
            key=where.key,
            before=before,
        )
        try:
            return (await self._table.calls(query, limit)).calls
        except FactsAway as away:
            raise Away(str(away)) from away

    async def one(self, call: str) -> StoredCall | None:
        try:
            story = await self._table.story(call)
        except FactsAway as away:
            raise Away(str(away)) from away
        return None if story is None else _as(story, StoredCall)

    async def beside(self, since_wall_ms: int, until_wall_ms: int, limit: int) -> Sequence[CallFact]:
        try:
            return await self._table.beside(since_wall_ms, until_wall_ms, limit)
        except FactsAway as away:
            raise Away(str(away)) from away

    async def overview(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, tenant: str) -> Overview:
        try:
            found = await self._table.overview(since_wall_ms, until_wall_ms, bucket_ms, self._wall(), tenant)
        except FactsAway as away:
            raise Away(str(away)) from away
        return _as(found, Overview)

    async def admission(self, where: AdmissionQuery, bucket_ms: int, objectives: Mapping[str, Objective]) -> AdmissionReport:
        try:
            return await self._table.admission(where, bucket_ms, objectives, self._wall())
        except FactsAway as away:
            raise Away(str(away)) from away

    async def stalled(self, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int) -> Stalled:
        try:
            return await self._table.stalled(call, endpoint, since_wall_ms, until_wall_ms)
        except FactsAway as away:
            raise Away(str(away)) from away


def _as(value: msgspec.Struct, shape: type[Shape]) -> Shape:
    """The same fields in the port's own struct."""
    return msgspec.convert(value, shape, from_attributes=True)
