"""A model over a whole scene becomes a class map."""
