"""The data-plane process: HTTP in, dialects, pipeline, HTTP out, link to control. ``pipeline.py`` is the story on one screen.

Loads no web framework, pydantic, SQLAlchemy, OTel SDK, numpy, pyarrow, DuckDB or ibis (tests/test_install.py holds this).
"""
