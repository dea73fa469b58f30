"""Grade sample photographs on embedded servers."""
