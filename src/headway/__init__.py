"""Headway: a self-hosted control plane for LLM calls and agent runs.

Importing this package does no I/O and loads nothing heavy: names resolve lazily.
"""

__version__ = "0.1.0"

SCHEMA_VERSION = 1
"""Version of the facts (see ``headway.facts.model``): written into every segment and Parquet file."""
