"""Worlds in which a call is slow for a known cause: what a gateway would have seen of it, and apart from that the truth. See README.md."""
