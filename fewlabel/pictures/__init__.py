"""Pictures of samples as files: grids of images, points of vectors."""
