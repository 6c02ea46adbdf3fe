"""What the comparison of networks is made of: the question, the estimates, the networks' own spaces."""
