"""What an audit found, in the formats that other tools and people keep records in."""
