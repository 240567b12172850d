"""Durable events of runs, approvals, keys, budgets and principals. ``model.py`` is plain structs; ``store.py`` is the only room with SQL."""
