"""Commands of the console, one module each, imported only when called."""
