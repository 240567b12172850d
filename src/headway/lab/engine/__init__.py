"""The simulated engine: steps of continuous batching on a virtual clock. See README.md."""
