"""One HTML page and its pictures from a finished experiment."""

from outcrop.report.page import write_report

__all__ = ["write_report"]
