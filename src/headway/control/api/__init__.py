"""The JSON API under /api/v1, health and metrics: one file a noun. Every route declares the role it needs."""
