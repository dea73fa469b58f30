"""Object stores for overlays and reports, and readers of source images."""
