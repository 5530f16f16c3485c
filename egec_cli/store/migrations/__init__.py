"""The scripts that make and change the tables, in order, forward only."""
