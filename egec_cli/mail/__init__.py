"""What a client reads, and how it leaves."""
