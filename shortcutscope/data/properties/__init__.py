"""Columns that nobody typed: what files say of themselves, and what pictures are like."""
