"""From image bytes to pixels: headers, decoding, field of view, gradability, enhancement, overlay."""
