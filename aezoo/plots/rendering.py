"""The bytes of a figure as PNG, SVG or PDF."""

import io
import warnings
from typing import Any, Literal


def png(figure: Any) -> bytes:
    """Renders a figure as PNG; the same figure always gives the same bytes."""
    return render(figure, "png")


def render(figure: Any, format: Literal["png", "svg", "pdf"]) -> bytes:
    """Renders a figure in a format; the same figure always gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    metadata: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    with warnings.catch_warnings(), matplotlib.rc_context({"savefig.dpi": "figure", "svg.hashsalt": "aezoo"}):
        # Names may have characters that the font lacks; boxes are drawn in their place.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format=format, metadata=metadata[format], facecolor=figure.get_facecolor())
    return buffer.getvalue()
