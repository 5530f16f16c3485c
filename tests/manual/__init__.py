"""Execute the examples of the README and the guides, so that each one is true."""
