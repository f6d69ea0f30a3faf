"""A typed description of one experiment, and what runs it."""
