"""Colours of plots: places in the series of the house style, which differ between light and dark pages."""

BLUE, VERMILION, GREEN, ORANGE, GREY = (f"C{place}" for place in range(5))
GRADE_COLOURS = (GREY, BLUE, GREEN, ORANGE, VERMILION)
"""Colours of the grades 0 to 4."""
