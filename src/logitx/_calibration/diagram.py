"""The reliability diagram: accuracy beside confidence, bin by bin."""

from __future__ import annotations

from typing import Any

from logitx._calibration.accumulate import Calibration


def reliability_diagram(calibration: Calibration, /, *, ax: Any = None) -> Any:
    """Draw accuracy beside confidence, and below how many rows each bin holds.

    Parameters
    ----------
    calibration : Calibration
        What to draw.
    ax : matplotlib axes, optional
        Where to draw; new axes if not given.

    Returns
    -------
    matplotlib axes
        The axes, whose ``figure`` can be saved.

    Raises
    ------
    TypeError
        For anything but a `Calibration`.
    ImportError
        Where matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from logitx.calibration import Calibration, reliability_diagram
    >>> calibration = Calibration(bins=10).update(np.random.default_rng(0).normal(size=(500, 3)), np.zeros(500, int))
    >>> axes = reliability_diagram(calibration)
    >>> axes.figure.savefig("reliability.png")  # doctest: +SKIP
    """
    if not isinstance(calibration, Calibration):
        raise TypeError(f"calibration: {type(calibration).__name__} is not allowed; allowed is a Calibration")
    if ax is None:
        from matplotlib.figure import Figure  # not pyplot: no window, and nothing to close

        ax = Figure(figsize=(4.6, 4.6), layout="constrained").subplots()
    result = calibration.result()
    bins, there = result.bins, result.bins.weight > 0.0
    left, width = bins.lower[there], (bins.upper - bins.lower)[there]
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=1)
    ax.bar(left, bins.accuracy[there], width, align="edge", color="#4c78a8", edgecolor="white", label="accuracy")
    gap = (bins.confidence - bins.accuracy)[there]
    ax.bar(left, gap, width, bins.accuracy[there], align="edge", color="#e45756", alpha=0.45, label="to confidence")
    shares = bins.weight[there] / bins.weight[there].max(initial=1e-300)
    ax.bar(left, -0.12 * shares, width, align="edge", color="0.7", edgecolor="white", label="share of rows")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xlim=(0, 1), ylim=(-0.14, 1.02), xlabel="confidence", ylabel="accuracy", yticks=[0, 0.25, 0.5, 0.75, 1])
    ax.set_title(f"calibration error {result.error:.3f}, Brier score {result.brier:.3f}", fontsize=10)
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    return ax
