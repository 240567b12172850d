"""The board: each page is a frozen struct, shown by a template or, with ``?_format=json``, as it is."""
