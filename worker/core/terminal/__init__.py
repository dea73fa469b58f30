"""What commands print: tables, progress bars and errors."""
