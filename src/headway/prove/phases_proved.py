"""What proving phases brings, on any engine."""

from collections.abc import Mapping

import msgspec

from headway.kernel.figure import Proof


class Proved(msgspec.Struct, frozen=True):
    """The proof, and how many calls of each cause were given each verdict."""

    proof: Proof
    matrix: Mapping[str, Mapping[str, int]]
