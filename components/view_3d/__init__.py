"""Show the worst test case in 3-D, as one self-contained page."""
