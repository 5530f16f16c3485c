"""The use cases: what the system does. They own the transactions; they never print and never exit."""
