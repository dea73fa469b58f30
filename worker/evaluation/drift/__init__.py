"""Test runs and nights for distribution drift."""
