"""Untrusted bytes become prepared images in processes that may crash, hang or bloat."""
