"""What the small pipelines to train share."""
