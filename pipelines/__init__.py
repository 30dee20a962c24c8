"""The pipelines that chain the components, and the command line that runs, compiles and submits them."""
