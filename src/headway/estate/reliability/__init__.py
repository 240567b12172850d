"""Pillar 8: what a second provider is worth. ``failover.py`` decides where the next attempt goes."""
