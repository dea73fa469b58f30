"""Upright ellipses and circles through points: exact, by least squares, and robustly.

An ellipse is an array (..., 4): centre x, centre y, radius x, radius y, all in pixels.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HYPOTHESES = 300
"""Three quarters of the points may be wrong: 300 circles of 3 points then miss with a chance of 0.9 %."""
AT_ONCE = 30
ENOUGH = 0.9
"""A hypothesis that so many points are near to ends the search: 30 of them suffice for most photographs."""
SCORED_POINTS = 400
"""Enough to rank the hypotheses; the least squares that follow use every point."""
REFINEMENTS = 4
RADIUS_RANGE = (0.15, 1.5)
"""Smallest radius over the picture's shorter side, largest over its longer."""
MAX_SQUASH = 2.0
"""Largest ratio of the radii; 3:2 photographs squashed to a square have 1.5."""


def fit_ellipse_ransac(points: Array, picture: tuple[int, ...], tolerance: float, *, round_only: bool) -> Array | None:
    """The ellipse that most of the points (N, 2) are near to, or None when no plausible one passes through any.

    RANSAC with a fixed seed, then least squares on what is nearer than `tolerance` (Fischler and Bolles 1981).
    """
    random = np.random.default_rng(0)
    middle, size = points.mean(axis=0), float(np.ptp(points)) / 2
    scaled = (points - middle) / size

    def shapes_of(solutions: Array) -> Array:
        shapes: Array = _shapes(solutions, round_only=round_only) * size + np.array([*middle, 0.0, 0.0])
        return shapes

    scored = random.choice(len(points), min(len(points), SCORED_POINTS), replace=False)
    drawn = scaled[random.choice(scored, (HYPOTHESES, 3 if round_only else 4))]
    best: Array | None = None
    most = 0
    for samples in np.split(drawn, HYPOTHESES // AT_ONCE):
        left, right = _equations(samples, round_only=round_only)
        solvable = np.abs(np.linalg.det(left)) > 1e-9
        shapes = shapes_of(np.linalg.solve(left[solvable], right[solvable][..., None])[..., 0])
        shapes = shapes[_is_plausible(shapes, picture)]
        near = (distance(shapes, points[scored]) < tolerance).sum(axis=1)
        if near.max(initial=0) > most:
            best, most = shapes[near.argmax()], int(near.max())
        if most > ENOUGH * len(scored):
            break
    if best is None:
        return None
    for _ in range(REFINEMENTS):
        left, right = _equations(scaled[distance(best, points) < tolerance], round_only=round_only)
        refined = shapes_of(np.asarray(np.linalg.lstsq(left, right, rcond=None)[0], np.float64))
        if not _is_plausible(refined, picture):
            break
        best = refined
    return best


def distance(shapes: Array, points: Array) -> Array:
    """Distance of points (N, 2) from borders (..., 4), in pixels: exact for circles, close for upright ellipses."""
    x, y, radius_x, radius_y = (shapes[..., None, index] for index in range(4))
    relative = np.hypot((points[:, 0] - x) / radius_x, (points[:, 1] - y) / radius_y) - 1
    distance: Array = np.abs(relative) * np.sqrt(radius_x * radius_y)
    return distance


def _equations(points: Array, *, round_only: bool) -> tuple[Array, Array]:
    """Linear system of x² + a y² + b x + c y + d = 0, a = 1 for a circle; points (..., N, 2)."""
    x, y = points[..., 0], points[..., 1]
    ones = np.ones_like(x)
    if round_only:
        return np.stack([x, y, ones], axis=-1), -(x * x + y * y)
    return np.stack([y * y, x, y, ones], axis=-1), -(x * x)


def _shapes(solutions: Array, *, round_only: bool) -> Array:
    """(..., 3 or 4) coefficients to (..., 4) centre and radii; NaN where the curve is no ellipse."""
    a = np.ones(solutions.shape[:-1]) if round_only else solutions[..., 0]
    b, c, d = (solutions[..., index] for index in (-3, -2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = -b / 2, -c / (2 * a)
        radius_x = np.sqrt(x * x + a * y * y - d)
        return np.stack([x, y, radius_x, radius_x / np.sqrt(a)], axis=-1)


def _is_plausible(shapes: Array, picture: tuple[int, ...]) -> NDArray[np.bool_]:
    radii = shapes[..., 2:]
    smallest, largest = RADIUS_RANGE[0] * min(picture), RADIUS_RANGE[1] * max(picture)
    sized = np.all((radii > smallest) & (radii < largest), axis=-1)
    return np.asarray(sized & (radii.max(axis=-1) < MAX_SQUASH * radii.min(axis=-1)))
