"""What models cost and how well they do: multiply-adds, times and memory, compared trainings."""
