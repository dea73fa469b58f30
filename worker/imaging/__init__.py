"""From the bytes of a photograph to the model's input, and from its saliency map to an overlay.

The bytes pass these files in order:

1. steps/fetch.py: read them from storage and verify their checksum.
2. sandbox/pool.py, sandbox/child_process.py: hand them to an idle decoding process, within a deadline
   (worker/core/deadlines.py), through shared memory (sandbox/shared_memory.py, sandbox/protocol.py).
3. sandbox/decoder_program.py: the loop of that process; it calls steps/prepare.py, which runs steps 4 to 8.
4. headers/check.py: detect the format and check size and integrity; one file per format.
5. steps/decode.py: decode at reduced scale to 8-bit RGB; codec_warnings.py reports damage that codecs only print.
6. steps/find_field.py: find the field of view; border_fit.py and ellipse_ransac.py fit its border.
7. steps/gradability.py: refuse photographs that cannot be graded.
8. steps/enhance.py: crop, resize and enhance the field as the model's recipe.py says (resize_cache.py,
   gaussian_blur.py); prepare.py draws the canvas, the field in colour on which the overlay is drawn.
9. sandbox/protocol.py: return the PreparedImage (photograph.py) to the worker, which runs the model.
10. steps/overlay.py: draw the saliency map over the canvas and encode it (upsample.py); saliency_layer.py renders it as
    a layer for pages; steps/panel.py and steps/thumbnail.py make the other pictures.
"""
