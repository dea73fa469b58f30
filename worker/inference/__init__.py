"""Grade chunks of images.

The path of a chunk: `runtime` receives it, `pipeline` leases its images and settles them, `image_grader` fetches,
prepares, predicts, renders and uploads each image, `batcher` joins images of all chunks into forward passes.
"""
