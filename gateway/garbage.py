"""What the collector of cycles has to look at in a process that serves: what came after its start, and that seldom.

Invariant: counting references frees what requests, records and calls leave behind; the collector is for the rest, which
is rare here, so it may come late and never has to go through what lives as long as the process.
"""

import gc
from typing import Final

_THRESHOLD: Final = 50_000
"""New containers until it looks: at the default of 700, a few hundred requests in flight, or a batch of records, are
looked through again and again."""


def settle() -> None:
    """Take all that was made until now for lasting. Once, when all parts are there and before the first request.

    The end is quicker by it too: the interpreter's last collections pass over what is frozen.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD)
