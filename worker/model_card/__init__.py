"""The model card: what a bundle learnt from, what it is worth on pictures it never learnt from, and where it fails."""
