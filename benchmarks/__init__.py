"""The comparison of this gateway with other proxies doing the same work, side by side in one run.

Start it with `python -m benchmarks`; `benchmarks/README.md` says what is measured and how.

What is measured in this process, such as the recorder, is the gateway that is installed, too: the checkout, from whose
directory `-m` is called, would be found first otherwise, and that is not compiled.
"""

import sys
from pathlib import Path

if sys.path[0] == str(Path(__file__).parent.parent):  # not under PYTHONSAFEPATH
    sys.path.append(sys.path.pop(0))
