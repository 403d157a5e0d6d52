"""How figures look: one place for fonts, colours, line styles, axes and files.

Figures are made without pyplot and its global state: every setting is applied in a context,
and files come out byte for byte the same for the same data (no dates, fixed identifiers).
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from miagap.artifacts import write_atomic
from miagap.errors import InputError

# Okabe and Ito's colours (distinct with every colour vision), then darker hues that differ
# from them in lightness. Line styles and markers tell techniques apart without any colour.
COLORBLIND = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7A4FA3",
    "#8C5A2B",
    "#7F7F7F",
)
_LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (2.5, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
}
ZERO_MARKER: Any = 11  # CARETDOWNBASE: a triangle that stands on the axis, pointing below it


@dataclass(frozen=True)
class Style:
    """Settings of all figures (config key ``figures``).

    Attributes:
        palette: ``colorblind`` or the name of a matplotlib colour map.
        font_size: points; labels and legends follow it.
        width: inches.
        dpi: dots per inch of PNG files.
    """

    palette: str = "colorblind"
    font_size: float = 9.0
    width: float = 5.5
    dpi: int = 200

    @property
    def small(self) -> float:
        """Size of legends, ticks and notes in points."""
        return 0.84 * self.font_size

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the settings within a block."""
        settings: Any = {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": self.font_size,
            "axes.labelsize": self.font_size,
            "axes.titlesize": self.font_size,
            "figure.titlesize": self.font_size,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.labelsize": self.small,
            "ytick.labelsize": self.small,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.minor.width": 0.4,
            "ytick.minor.width": 0.4,
            "xtick.minor.size": 1.8,
            "ytick.minor.size": 1.8,
            "legend.fontsize": self.small,
            "legend.frameon": False,
            "legend.handlelength": 2.4,
            "legend.borderaxespad": 0.2,
            "lines.linewidth": 1.3,
            "figure.dpi": 100,
            "savefig.dpi": self.dpi,
            "savefig.facecolor": "white",
            "svg.hashsalt": "miagap",
            "svg.fonttype": "path",
            "pdf.fonttype": 42,
        }
        with mpl.rc_context(settings):
            yield

    def figure(self, height: float) -> Figure:
        """Return an empty figure of the style's width and ``height`` inches."""
        return Figure(figsize=(self.width, height), layout="constrained")

    def colors(self, names: Sequence[str]) -> dict[str, Any]:
        """Return a colour for each name."""
        if self.palette == "colorblind":
            palette: Sequence[Any] = COLORBLIND
        elif self.palette in mpl.colormaps:
            palette = _sample(mpl.colormaps[self.palette], len(names))
        else:
            raise InputError(
                f"figures.palette: {self.palette} is unknown; use colorblind or a matplotlib "
                "colour map such as tab10 or viridis"
            )
        return dict(zip(names, itertools.cycle(palette)))

    def lines(self, names: Sequence[str]) -> dict[str, Any]:
        """Return a line style for each name."""
        return dict(zip(names, itertools.cycle(_LINES)))

    def markers(self, names: Sequence[str]) -> dict[str, str]:
        """Return a marker for each name."""
        return dict(zip(names, itertools.cycle(_MARKERS)))


def _sample(colormap: Colormap, count: int) -> list[Any]:
    """Return ``count`` colours of a map: its own list if it is one, else evenly spaced."""
    if colormap.N <= 20:
        return [colormap(index) for index in range(colormap.N)]
    return [colormap(0.05 + 0.85 * index / max(1, count - 1)) for index in range(count)]


def sequential(low: float = 0.0, high: float = 0.9) -> Colormap:
    """Return the map of ordered values, without the end that is too pale on white."""
    viridis = mpl.colormaps["viridis"]
    steps = [low + (high - low) * index / 63 for index in range(64)]
    return LinearSegmentedColormap.from_list("ordered", [viridis(step) for step in steps])


def percent_label(value: float, _: Any = None) -> str:
    """Return a share as a tick label in percent."""
    return f"{100 * value:.6g}"


def log_percent(axis: Axis, few: bool = False) -> None:
    """Label the decades of a logarithmic axis of shares in percent.

    Args:
        axis: the axis.
        few: the axis spans few decades: label 2 and 5 of each decade too.
    """
    if few:
        axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(percent_label))
        return
    axis.set_major_locator(LogLocator(base=10))
    axis.set_minor_locator(LogLocator(base=10, subs=range(2, 10)))
    axis.set_major_formatter(FuncFormatter(percent_label))
    axis.set_minor_formatter(NullFormatter())


def linear_percent(axis: Axis) -> None:
    """Label a linear axis of shares in percent."""
    axis.set_major_formatter(FuncFormatter(percent_label))


def light_grid(axes: Axes) -> None:
    """Draw the grid of the major ticks behind the data."""
    axes.grid(True, which="major", color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)


def write(figure: Figure, path: str | os.PathLike[str], kind: str, style: Style) -> None:
    """Write a figure as ``kind`` (svg, png, pdf), atomically and reproducibly."""
    if kind not in _METADATA:
        raise InputError(f"figures.formats: {kind} is unknown; use {', '.join(_METADATA)}")
    with style.applied(), write_atomic(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=_METADATA[kind], dpi=style.dpi)


def write_all(figure: Figure, paths: Mapping[str, str], style: Style) -> None:
    """Write a figure in several formats: format -> path."""
    for kind, path in paths.items():
        write(figure, path, kind, style)
