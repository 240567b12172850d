"""HTTP out: the port, the adapter of our own, the one on aiohttp, and the suite that both are held to."""
