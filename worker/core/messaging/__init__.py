"""The broker: queues, transports and delivery settings."""
