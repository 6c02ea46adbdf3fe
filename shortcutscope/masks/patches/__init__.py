"""What single places of images show, learnt from which images carry an artifact."""
