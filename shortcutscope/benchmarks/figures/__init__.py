"""What the figures of several suites and papers share."""
