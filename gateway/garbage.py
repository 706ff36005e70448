"""What the collector of cycles has to look at in a process that serves: what came after its start.

Invariant: nothing that is garbage at the start is kept for it. How often the collector looks is left to each process:
workers leave hardly a cycle, but a call that the control process refuses leaves its traceback, with the call's body.
"""

import gc


def settle() -> None:
    """Take all that was made until now for lasting. Once, when all parts are there and before the first request.

    The end is quicker by it too: the interpreter's last collections pass over what is frozen.
    """
    gc.collect()
    gc.freeze()
