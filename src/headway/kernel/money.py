"""Money in whole numbers: amounts in nano-dollars, prices in pico-dollars a token. No float touches a bill.

$0.0375 for a million tokens is 37,500 pico-dollars a token; a 64-bit column of nano-dollars holds 9.2 billion dollars.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NewType

NanoUsd = NewType("NanoUsd", int)
"""1e-9 US dollars."""

PicoUsd = NewType("PicoUsd", int)
"""1e-12 US dollars, the unit of a price for one token."""

NANO_PER_USD = 1_000_000_000
PICO_PER_USD = 1_000_000_000_000
PICO_PER_NANO = 1_000


def nano_usd(usd: Decimal | int | str) -> NanoUsd:
    """Dollars to nano-dollars. Pass text or Decimal, not float."""
    return NanoUsd(int((Decimal(usd) * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN)))


def pico_per_token(usd_per_million: Decimal | int | str) -> PicoUsd:
    """A price in dollars for a million tokens to pico-dollars a token, exact to the sixth decimal of a dollar."""
    return PicoUsd(int((Decimal(usd_per_million) * (PICO_PER_USD // 1_000_000)).to_integral_value(ROUND_HALF_EVEN)))


def nano_from_pico(pico: int) -> NanoUsd:
    """Round half to even, once, at the end of a sum."""
    quotient, rest = divmod(pico, PICO_PER_NANO)
    half = PICO_PER_NANO // 2
    return NanoUsd(quotient + (rest > half or (rest == half and quotient % 2 == 1)))


def usd_text(amount: int, places: int = 6) -> str:
    """Nano-dollars as text for people, e.g. ``$0.001234``."""
    sign = "-" if amount < 0 else ""
    return f"{sign}${Decimal(abs(amount)) / NANO_PER_USD:,.{places}f}"
