"""The laboratory: seeded worlds and engines without a model. ``scripted.py`` is an upstream that answers in every dialect."""
