"""One HTML page and its pictures from a finished experiment, or from a class map."""

from outcrop.reporting.page import write_report

__all__ = ["write_report"]
