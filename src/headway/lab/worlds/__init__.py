"""Worlds on a virtual clock: clients, the product's own admission policy, and a simulated engine or provider. See README.md."""
