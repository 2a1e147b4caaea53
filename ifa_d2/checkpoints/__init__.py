"""Checkpoints of other code: names and layouts of weights turned into ours."""
