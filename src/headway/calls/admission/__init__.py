"""Admission: who goes next at an endpoint that several share. See README.md."""
