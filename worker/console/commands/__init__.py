"""The console's commands, one module each; imported only when called."""
