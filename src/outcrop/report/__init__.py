"""One HTML page and its pictures from a finished experiment."""
