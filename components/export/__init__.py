"""A gated model to a version folder that TensorFlow Serving loads."""
