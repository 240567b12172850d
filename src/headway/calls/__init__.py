"""One model call, as pure decisions: no socket, no clock, no await. ``model.py`` has the vocabulary, ``conversation.py`` the words said."""
