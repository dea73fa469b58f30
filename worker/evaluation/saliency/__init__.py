"""Test saliency maps: pointing game, deletion and insertion, weight randomisation, rotation stability."""
