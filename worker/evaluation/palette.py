"""Colours of plots, from the colour-blind safe palette of Okabe and Ito (2008)."""

BLACK, GREY = "#000000", "0.6"
BLUE, GREEN, ORANGE, VERMILION = "#0072B2", "#009E73", "#E69F00", "#D55E00"
GRADE_COLOURS = (BLACK, BLUE, GREEN, ORANGE, VERMILION)
"""Colours of the grades 0 to 4."""
