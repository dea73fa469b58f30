"""Decode untrusted image bytes in child processes that may crash, hang or exhaust their memory."""
