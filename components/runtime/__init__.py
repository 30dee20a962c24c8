"""Process-level support for every step: errors, atomic files, digests, a worker pool and logging."""
