"""What findings look like: pictures of both sides, and the properties that name them."""
