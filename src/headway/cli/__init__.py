"""``headway NOUN VERB``: one file a noun, loaded only when it is used, so that ``headway --help`` is quick.

Exit codes, also in ``docs/reference/cli.md``: 0 done; 1 done, and something is not as it should be; 2 the command or the configuration
cannot be used; 3 what is needed is missing here (control does not answer, no local model); 130 stopped by Ctrl-C.
"""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    from headway.cli.root import run

    return run(sys.argv[1:] if arguments is None else arguments)
