"""Admission where calls are: its policies built from settings, what they count, and the counters that gateways share."""
