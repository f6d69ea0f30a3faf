"""How good a class map is: reference samples, error matrices, areas with intervals."""
