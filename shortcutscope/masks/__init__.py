"""Masks: which pixels a finding is made of, for any number of images."""
