"""Costs of models: multiply-adds, times, memory."""
