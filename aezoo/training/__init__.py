"""Training: from a recipe to trained weights. Start reading at `train.train`, then `loop.StageRunner`."""
