"""What a picture file says of itself, read without a codec: nothing is decoded before its size is known and allowed."""
