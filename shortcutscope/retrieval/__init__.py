"""Retrieval: which samples carry a finding, by a person's marks and what is learnt from them."""
