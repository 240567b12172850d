"""Dialects as sans-I/O codecs: bytes in, values out, and back. ``port.py`` says what a codec is; ``registry.py`` lists them."""
