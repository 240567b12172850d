"""Engines of one's own: what they say of their load, and what they are told beside the caller's words."""
