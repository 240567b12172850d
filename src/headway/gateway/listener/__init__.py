"""HTTP in: the server, its strict framing, its deadlines and limits, and what of one request the gateway holds."""
