"""Strengths of the augmentation: changes that leave the grade unchanged.

A retina has no preferred orientation, so any rotation and reflection is allowed. Background subtraction removes the
local mean, so a change of illumination is simulated as a change of contrast that varies smoothly over the field.
"""

MAX_SCALE = 0.15
"""Largest absolute change of the natural logarithm of the scale."""
MAX_ASPECT = 0.10
"""Largest absolute change of the logarithm of width over height. The crop `lit_box` squeezes a field that is cut off at
the top and bottom by up to a fifth."""
MAX_SHIFT = 0.04
"""Largest translation, as a fraction of the side."""
MAX_CONTRAST = 0.35
"""Largest absolute change of the logarithm of the contrast."""
MAX_TILT = 0.25
"""Largest change of the logarithm of the contrast from the centre to the edge, horizontally and vertically."""
MAX_COLOUR = 0.12
"""Largest absolute change of the logarithm of the contrast of each channel."""
MAX_TINT = 8.0
"""Most grey levels added to or subtracted from each channel."""
BLUR_RANGE = (-0.6, 0.5)
"""Weight of the blurred image; a negative weight sharpens."""

REFLEX_PROBABILITY = 0.5
"""Probability of adding bands that imitate nerve fibre reflexes of young eyes or choroidal vessels of pale ones."""
MAX_REFLEX = 110.0
"""Largest brightness of a reflex in grey levels."""
NOISE_CELLS = (5, 14)
"""Cells per side of the smooth noise that shapes the bands, coarse and fine."""

MIXED_PROBABILITY = 0.5
"""Probability of taking a part of the amplitude spectrum of another image of the batch, where the plan asks for it.

The phase of a spectrum holds the shapes, its amplitude the contrast at each scale, which depends on the camera: the
network shall not rely on the texture of one camera. Source: Xu et al. 2021, arXiv 2105.14291.
"""
SMALLEST_AMPLITUDE = 1e-3
"""Amplitudes below it are not scaled up."""
