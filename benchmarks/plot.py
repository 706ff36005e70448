"""The plot of a run: processor time per request, a panel per workload, a bar per peer."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.comparison import Outcome
from benchmarks.summary import rows
from benchmarks.workloads import Workload

COLUMNS = 2
OWN, OTHERS, REST_OF_TREE = "#1f6feb", "#9aa4b2", "#c5d9f7"


def write_plot(outcome: Outcome, workloads: Sequence[Workload], path: Path) -> str | None:
    """Draw to `path` (its suffix chooses the format). Return why there is no plot, or None."""
    if find_spec("matplotlib") is None:
        return "matplotlib is not installed (pip install matplotlib, or the `bench` extra)"
    # Imported here, because a comparison without a plot is still a comparison.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = [(each, found) for each in workloads if (found := rows(outcome, each))]
    if not panels:
        return "nothing was measured"
    height = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(height, COLUMNS, figsize=(12, 2.9 * height), squeeze=False)
    for axis, (workload, found) in zip(axes.flat, panels, strict=False):
        places = range(len(found), 0, -1)
        colours = [OWN if row.peer.startswith("keygate") else OTHERS for row in found]
        axis.barh(places, [row.tree_microseconds for row in found], color=REST_OF_TREE)
        bars = axis.barh(places, [row.worker_microseconds for row in found], color=colours)
        axis.bar_label(bars, labels=[f"{row.worker_microseconds:.1f}" for row in found], padding=3, fontsize=8)
        axis.set_yticks(places, [row.title for row in found], fontsize=8)
        axis.set_title(workload.title, fontsize=9)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle("Processor time per request, microseconds (pale: the rest of the process tree)", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return None
