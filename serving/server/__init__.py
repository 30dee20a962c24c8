"""The embedded server: TensorFlow Serving's APIs over the same version folders."""
