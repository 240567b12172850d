"""Fairness against measured runs: VTC's workloads on their engine, simulated, with the product's own scheduler. See README.md."""

from headway.lab.fair.figures import figures

__all__ = ["figures"]
