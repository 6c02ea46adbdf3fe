"""What nobody labelled: proposals of shortcuts from images, relevances and metadata."""
