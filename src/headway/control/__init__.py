"""The control-plane process: API, board, ledger's writer, link to the gateways, jobs. Imports nothing of ``gateway``."""
