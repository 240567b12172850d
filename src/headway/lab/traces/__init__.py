"""Real traffic and real measurements, read from files into plain values. README of the data folder: what they are."""
