"""What the console answers, one module for each kind of page."""
