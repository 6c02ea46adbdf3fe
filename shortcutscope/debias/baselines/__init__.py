"""The recipes that a distillation is held against, under the same trainer and budget."""
