"""Report why the gate refused a model."""
