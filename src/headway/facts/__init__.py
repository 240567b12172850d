"""Columns of what happened. ``model.py`` says what a fact is; ``spool.py`` is the gateway's side, ``table.py`` and ``queries.py`` are control's."""
