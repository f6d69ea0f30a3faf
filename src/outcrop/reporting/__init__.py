"""One HTML page and its pictures from a finished experiment."""

from outcrop.reporting.page import write_report

__all__ = ["write_report"]
