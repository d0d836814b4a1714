"""The command line `tracker`: its door.

One room per noun below; each command parses, asks ledger or check, and renders.
"""

from tracker.cli.program import main

__all__ = ["main"]
