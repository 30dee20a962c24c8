"""What every step needs of its process: one-line errors, atomic files, digests, a worker pool and logging."""
