"""Training: the plan, the loop, averages, checkpoints and validation."""
