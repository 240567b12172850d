"""What calls rest on: providers, adapters, promises. Pure: no socket, no clock, no await."""
