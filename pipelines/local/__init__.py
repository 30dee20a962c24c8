"""Run whole pipelines on this machine, in kfp's local runner."""
