"""Whether the installed data plane is the compiled one, for `gateway --version` and the log.

The wheel compiles the hot modules all together or not at all (docs/compilation.md), so one of them speaks for all. It
is found, not imported: the answer must not cost the supervisor the memory of a worker. Having each worker report it
was turned down: workers run the same installation, and the answer is wanted without starting one, too.
"""

from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

WITNESS = "gateway.proxy.worker"


def is_compiled() -> bool:
    """Return whether the modules that each request passes through are extension modules."""
    found = find_spec(WITNESS)
    return found is not None and isinstance(found.loader, ExtensionFileLoader)
