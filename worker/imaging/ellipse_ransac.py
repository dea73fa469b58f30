"""Robust fitting of circles and axis-aligned ellipses to points: RANSAC, refined by least squares.

An ellipse is an array (..., 4): centre x, centre y, radius x, radius y, in pixels.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

HYPOTHESES = 300
"""With three quarters of outliers, 300 samples of 3 points contain no all-inlier sample in 0.9 % of cases."""
BATCH_SIZE = 30
"""Hypotheses evaluated at once; one batch is enough for most photographs."""
EARLY_STOP_INLIERS = 0.9
"""Share of inliers that ends the search."""
SCORED_POINTS = 400
"""Number of points used to rank hypotheses; the least-squares refinement uses all points."""
REFINEMENTS = 4
RADIUS_RANGE = (0.15, 1.5)
"""Minimum radius as a fraction of the image's shorter side, maximum as a fraction of its longer side."""
MAX_AXIS_RATIO = 2.0
"""Maximum ratio of the radii; a 3:2 photograph resized to a square has 1.5."""


def fit_ellipse_ransac(
    points: FloatArray, image_shape: tuple[int, ...], tolerance: float, *, circle_only: bool
) -> FloatArray | None:
    """Fit an ellipse, or a circle, to points (N, 2), many of which may be outliers. Returns None if none is plausible.

    RANSAC with a fixed seed, then least squares on the inliers, points closer than `tolerance` pixels.
    Source: Fischler and Bolles 1981, Random Sample Consensus.
    """
    random = np.random.default_rng(0)
    mean, scale = points.mean(axis=0), float(np.ptp(points)) / 2
    normalised = (points - mean) / scale

    def to_pixels(coefficients: FloatArray) -> FloatArray:
        ellipses: FloatArray = _to_ellipses(coefficients, circle_only=circle_only) * scale + np.array([*mean, 0.0, 0.0])
        return ellipses

    scored = random.choice(len(points), min(len(points), SCORED_POINTS), replace=False)
    samples = normalised[random.choice(scored, (HYPOTHESES, 3 if circle_only else 4))]
    best: FloatArray | None = None
    best_inliers = 0
    for batch in np.split(samples, HYPOTHESES // BATCH_SIZE):
        lhs, rhs = _linear_system(batch, circle_only=circle_only)
        solvable = np.abs(np.linalg.det(lhs)) > 1e-9
        ellipses = to_pixels(np.linalg.solve(lhs[solvable], rhs[solvable][..., None])[..., 0])
        ellipses = ellipses[_is_plausible(ellipses, image_shape)]
        inliers = (ellipse_distance(ellipses, points[scored]) < tolerance).sum(axis=1)
        if inliers.max(initial=0) > best_inliers:
            best, best_inliers = ellipses[inliers.argmax()], int(inliers.max())
        if best_inliers > EARLY_STOP_INLIERS * len(scored):
            break
    if best is None:
        return None
    for _ in range(REFINEMENTS):
        lhs, rhs = _linear_system(normalised[ellipse_distance(best, points) < tolerance], circle_only=circle_only)
        refined = to_pixels(np.asarray(np.linalg.lstsq(lhs, rhs, rcond=None)[0], np.float64))
        if not _is_plausible(refined, image_shape):
            break
        best = refined
    return best


def ellipse_distance(ellipses: FloatArray, points: FloatArray) -> FloatArray:
    """Distance in pixels of points (N, 2) from ellipses (..., 4), (..., N); exact for circles, else approximate."""
    x, y, radius_x, radius_y = (ellipses[..., None, index] for index in range(4))
    relative = np.hypot((points[:, 0] - x) / radius_x, (points[:, 1] - y) / radius_y) - 1
    distance: FloatArray = np.abs(relative) * np.sqrt(radius_x * radius_y)
    return distance


def _linear_system(points: FloatArray, *, circle_only: bool) -> tuple[FloatArray, FloatArray]:
    """Linear system of x² + a y² + b x + c y + d = 0 for points (..., N, 2); a = 1 for a circle."""
    x, y = points[..., 0], points[..., 1]
    ones = np.ones_like(x)
    if circle_only:
        return np.stack([x, y, ones], axis=-1), -(x * x + y * y)
    return np.stack([y * y, x, y, ones], axis=-1), -(x * x)


def _to_ellipses(coefficients: FloatArray, *, circle_only: bool) -> FloatArray:
    """Convert coefficients (..., 3 or 4) to centre and radii (..., 4); NaN if the curve is not an ellipse."""
    a = np.ones(coefficients.shape[:-1]) if circle_only else coefficients[..., 0]
    b, c, d = (coefficients[..., index] for index in (-3, -2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = -b / 2, -c / (2 * a)
        radius_x = np.sqrt(x * x + a * y * y - d)
        return np.stack([x, y, radius_x, radius_x / np.sqrt(a)], axis=-1)


def _is_plausible(ellipses: FloatArray, image_shape: tuple[int, ...]) -> NDArray[np.bool_]:
    radii = ellipses[..., 2:]
    smallest, largest = RADIUS_RANGE[0] * min(image_shape), RADIUS_RANGE[1] * max(image_shape)
    in_range = np.all((radii > smallest) & (radii < largest), axis=-1)
    return np.asarray(in_range & (radii.max(axis=-1) < MAX_AXIS_RATIO * radii.min(axis=-1)))
