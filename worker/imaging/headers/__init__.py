"""Read and check file headers without a codec: no pixel is decoded before format and size are known and allowed."""
