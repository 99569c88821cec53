"""Labels beside points, placed where they hide no point, line or other label as far as there is room."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks.report.figures.style import plain

DISTANCES = (6, 12, 20, 30, 42, 56, 72, 92, 116, 144)  # pixels from the point, tried in turn
DIRECTIONS = 16
NEAR = 12  # pixels; from labels further away a thin line leads to the point
SAMPLES = 60  # of each straight piece of a line
MARGIN = 2.0  # pixels around a label
LEADER = {"arrowstyle": "-", "color": "grey", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}


def label_points(axes: Axes, labels: Iterable[tuple[float, float, str]]) -> None:
    """Write each `(x, y, text)` beside its point. The axes must be complete: drawn, limited and titled.

    This fixes the layout of the figure.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    frame, drawn = axes.get_window_extent(renderer), _drawn(axes)
    taken: list[Bbox] = []
    for x, y, text in sorted(labels, key=lambda label: (label[1], label[0])):
        at = axes.transData.transform((x, y))
        if not frame.padded(1).contains(*at):
            continue
        note = axes.annotate(plain(text), (x, y), (0, 0), textcoords="offset points", arrowprops=LEADER)
        note.set(fontsize="small", ha="center", va="center")
        size = Text.get_window_extent(note, renderer)  # without the leader
        distance, box = _place(at, size.width, size.height, frame, drawn, taken)
        taken.append(box)
        note.xyann = tuple((np.add(box.min, box.max) / 2 - at) * 72 / figure.dpi)
        assert note.arrow_patch
        note.arrow_patch.set_visible(distance > NEAR)


def _place(
    at: np.ndarray, width: float, height: float, frame: Bbox, drawn: np.ndarray, taken: Sequence[Bbox]
) -> tuple[float, Bbox]:
    """The distance and the box, in pixels, of the nearest free place for a label, or of the one that hides least."""
    best: tuple[float, float, Bbox] | None = None
    for distance in DISTANCES:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            x = at[0] + math.cos(angle) * (distance + width / 2)
            y = at[1] + math.sin(angle) * (distance + height / 2)
            box = Bbox.from_extents(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            hidden = _hides(box.padded(MARGIN), frame, drawn, taken)
            if not hidden:
                return distance, box
            if best is None or hidden < best[0]:
                best = hidden, distance, box
    assert best is not None
    return best[1:]


def _hides(box: Bbox, frame: Bbox, drawn: np.ndarray, taken: Sequence[Bbox]) -> float:
    """The cost of a place: 0 if it is free, 1 for each point hidden, 1,000 for each label, 1e6 outside the frame."""
    x, y = drawn[:, 0], drawn[:, 1]
    points = int(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).sum())
    outside = not (frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1)
    return points + 1e3 * sum(box.overlaps(other) for other in taken) + 1e6 * outside


def _drawn(axes: Axes) -> np.ndarray:
    """Samples of all lines and intervals, and the centres and rims of points, in pixels: `(samples, 2)`."""
    paths, points = [], [np.empty((0, 2))]
    for line in axes.lines:
        path = line.get_path().transformed(line.get_transform())
        if line.get_linestyle() != "None":
            paths.append(path)
        if line.get_marker() not in ("None", "none", None):
            rim = line.get_markersize() / 2 * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
            points += [(np.asarray(path.vertices, float)[:, None] + rim).reshape(-1, 2)]
    for collection in axes.collections:
        paths += [path.transformed(collection.get_transform()) for path in collection.get_paths()]
    return np.concatenate([*points, *(np.asarray(path.interpolated(SAMPLES).vertices, float) for path in paths)])
