"""Concepts that occur together: whose part of the effect is it?"""
