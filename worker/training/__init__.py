"""Train a model on images prepared by the same steps as in the worker, so that training and serving agree."""
