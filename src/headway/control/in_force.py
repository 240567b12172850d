"""What is in force, as pages and API show it: the reloader's configuration, the link's gateways, the publisher's prices."""

from collections.abc import Sequence

import msgspec

from headway.calls.pricing import PriceRow
from headway.config.model import Settings
from headway.control.leases import close_all
from headway.control.link import LinkServer
from headway.control.ports import DiffLine, FeatureView, GatewayView, Generation, ProviderView, TenantView
from headway.control.publish import Publisher
from headway.control.reload import Reloader
from headway.kernel.limits import PAGE_ROWS_MAX
from headway.ledger.port import LeaseAt, LedgerBusy, LedgerUnavailable


class InForce:
    """Implements the ports Configuration, Gateways and Prices."""

    def __init__(self, reloader: Reloader, link: LinkServer, publisher: Publisher, path: str) -> None:
        self._reloader, self._link, self._publisher, self._path = reloader, link, publisher, path

    def generation(self) -> Generation:
        """What is in force; number 0 until the first configuration could be stored."""
        record, loaded = self._reloader.generation, self._reloader.loaded
        if record is None or loaded is None:
            return Generation(
                number=0,
                loaded_wall_ms=0,
                path=self._path,
                problem=self._reloader.problem,
                problem_wall_ms=self._reloader.problem_wall_ms,
            )
        settings = loaded.settings
        return Generation(
            number=record.number,
            loaded_wall_ms=record.at_wall_ms,
            path=self._path,
            diff=tuple(DiffLine(key=key, before=before, after=after) for key, before, after in record.diff[:PAGE_ROWS_MAX]),
            problem=self._reloader.problem,
            problem_wall_ms=self._reloader.problem_wall_ms,
            tenants=_tenants(settings),
            features=tuple(
                FeatureView(name=name, targets=f.targets, strict=f.strict, records_text=f.record.text)
                for name, f in settings.features.items()
            ),
            providers=tuple(
                ProviderView(name=name, preset=p.preset, base_url=p.base_url or ", ".join(p.base_urls), models=p.models)
                for name, p in settings.providers.items()
            ),
            open_access=settings.open_access,
        )

    async def reload(self, actor: str) -> Generation:
        """Read the file now."""
        await self._reloader.reload(actor)
        return self.generation()

    def gateways(self) -> Sequence[GatewayView]:
        """Connected ones and those that were."""
        return tuple(msgspec.convert(state, GatewayView, from_attributes=True) for state in self._link.gateways())

    async def push_keys(self) -> None:
        """Now rather than at the next look; when the ledger is away, at the next look."""
        try:
            await self._publisher.push_keys()
        except (LedgerUnavailable, LedgerBusy):
            return

    async def push_budgets(self, closing: Sequence[LeaseAt]) -> None:
        """Now, or when the ledger is back."""
        await self._publisher.budgets_changed()
        await close_all(closing, self._link)

    def version(self) -> str:
        return self._publisher.prices.version

    def find(self, provider: str, model: str) -> Sequence[PriceRow]:
        """Rows of a model, exact names first, then the beginnings that fit; a provider narrows it."""
        table, name = self._publisher.prices, model.lower()
        exact = [row for row in table.rows if row.model.lower() == name]
        starts = [row for row in table.prefixes if name.startswith(row.model.lower())]
        return tuple(row for row in (*exact, *starts) if provider in ("", row.provider))[:PAGE_ROWS_MAX]


def _tenants(settings: Settings) -> tuple[TenantView, ...]:
    return tuple(
        TenantView(name=name, weight=tenant.weight, klass=tenant.klass, features=tenant.features)
        for name, tenant in settings.tenants.items()
    )
