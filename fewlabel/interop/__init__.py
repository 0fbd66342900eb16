"""Models in and out: diffusers' folders, and checkpoints of the published score-SDE code."""
