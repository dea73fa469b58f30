"""Terminal output of commands: tables, progress bars and errors."""
