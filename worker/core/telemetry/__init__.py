"""Logs, traces, heartbeat and alerts."""
