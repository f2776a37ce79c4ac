"""`Figure`: a Matplotlib figure without pyplot that notebooks show as a picture."""

from matplotlib.figure import Figure as MatplotlibFigure

from aezoo.plots.rendering import png


class Figure(MatplotlibFigure):
    """A Matplotlib figure that shows itself as the last value of a notebook cell.

    Without pyplot there is no window, no global state and no backend to choose; but then Jupyter prints a
    plain figure as text.
    """

    def _repr_png_(self) -> bytes:
        return png(self)
