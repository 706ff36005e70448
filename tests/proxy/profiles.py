"""How much the property tests of the wire try: a little in every run, much more where KEYGATE_FUZZ asks for it.

`KEYGATE_FUZZ=50 pytest tests/proxy` tries fifty times as many examples.
"""

from __future__ import annotations

import os


def scaled(examples: int) -> int:
    """The number of examples for a property."""
    return examples * int(os.environ.get("KEYGATE_FUZZ", "1"))
