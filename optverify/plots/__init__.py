"""Figures of comparisons, searches and accuracies (extra ``plots``); each takes an ``ax`` and returns it."""

from optverify.plots.accuracy import plot_accuracy
from optverify.plots.figures import plot_bounds, plot_gaps, plot_proved, plot_trace, plot_widths
from optverify.plots.slices import slice_plot
from optverify.plots.style import svg

__all__ = [
    "plot_accuracy",
    "plot_bounds",
    "plot_gaps",
    "plot_proved",
    "plot_trace",
    "plot_widths",
    "slice_plot",
    "svg",
]
