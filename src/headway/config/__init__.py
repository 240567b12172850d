"""The one configuration file. ``model.py`` has its nouns, ``load.py`` reads it and says what is wrong, ``presets.py`` knows the providers."""
