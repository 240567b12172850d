"""Drives the running product through incidents and reports figures."""
