"""Hops: which service on the way owns the median, which the tail, and what would change if one were faster. See README.md."""
