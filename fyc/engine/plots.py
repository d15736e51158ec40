"""The picture of an artifact's report: output error of every converted module, and extra columns, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fyc.artifact import ModuleEntry

#: Colour of a module by bits per weight; grey when the pass does not say.
_COLOURS = {8.0: "#4477aa", 4.0: "#ee6677"}
_OTHER = "#888888"


def draw_modules(modules: Sequence[ModuleEntry], path: Path) -> bool:
    """Draw the modules that have an error, in model order; the same modules give the same bytes.

    Args:
        modules: what the passes reported.
        path: SVG file to write.

    Returns:
        Whether a picture was written: it is not when matplotlib (extra `plots`) is missing or no module has an error.
    """
    measured = [module for module in modules if module.error is not None and module.error > 0]
    if not measured:
        return False
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's own style would change the bytes
        mpl.rcParams.update({"svg.hashsalt": "fyc", "svg.fonttype": "none", "font.size": 9})
        expanded = any(module.expansion is not None for module in measured)
        figure = Figure(figsize=(9, 4.6 if expanded else 3.2), layout="constrained")
        ratios = (2, 1) if expanded else (1,)
        axes = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
        error = axes[0]
        positions = list(range(len(measured)))
        colours = [_COLOURS.get(module.bits or 0.0, _OTHER) for module in measured]
        error.scatter(positions, [module.error for module in measured], c=colours, s=12)
        error.set_yscale("log")
        error.set_ylabel("relative output error")
        error.grid(visible=True, axis="y", alpha=0.3)
        for bits in sorted({module.bits for module in measured if module.bits}):
            error.scatter([], [], c=_COLOURS.get(bits, _OTHER), s=12, label=f"{bits:g}-bit weights")
        if error.get_legend_handles_labels()[0]:
            error.legend(loc="lower right", frameon=False)
        if expanded:
            axes[1].bar(positions, [100 * (module.expansion or 0.0) for module in measured], color=colours, width=1.0)
            axes[1].set_ylabel("extra columns (%)")
        axes[-1].set_xlabel("converted modules, in model order")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "fyc"})
    return True
