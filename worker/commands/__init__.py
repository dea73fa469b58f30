"""Commands of `fundus` that need the `worker` extra; `producer.cli` imports them on demand."""
