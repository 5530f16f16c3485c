"""Execute the examples of the README, so that each one is true."""
