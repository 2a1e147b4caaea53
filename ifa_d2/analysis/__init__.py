"""Costs and comparisons of models: multiply-adds, times, memory, trainings."""
