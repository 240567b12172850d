"""Phases: where one call's time went, by whose doing, or that nobody can tell. See README.md."""
