"""Export an evaluated model as a version folder that TensorFlow Serving loads."""
