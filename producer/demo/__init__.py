"""End-to-end demo on embedded servers."""
