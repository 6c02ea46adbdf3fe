"""Images that were decoded once: held in memory or on disk, and read by worker processes."""
