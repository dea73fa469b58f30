"""Run the network: one engine per library and precision, and their acceptance test."""
