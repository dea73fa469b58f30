"""Logs, traces, heartbeats and alerts."""
