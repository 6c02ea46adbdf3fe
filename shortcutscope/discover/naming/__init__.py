"""What the carriers of a finding look like, in words and numbers."""
