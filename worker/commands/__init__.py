"""The commands of `fundus` that need the `worker` extra; `producer.cli` loads them when they are called."""
