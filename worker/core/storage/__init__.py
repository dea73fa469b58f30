"""Object storage: object keys, S3 and folder stores, source images."""
