"""Write a figure to a PNG file."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from worker.core.storage.atomic_write import write_atomically


def write_figure(figure: Figure, file: Path, *, dpi: int) -> None:
    """Write the figure atomically, readable by owner and group at most. Raises OSError."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    write_atomically(file, buffer.getvalue())
