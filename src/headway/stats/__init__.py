"""Pure numerics on numpy: arrays in, numbers out. No clock, no file; randomness is a seed. The gateway never loads this room."""
