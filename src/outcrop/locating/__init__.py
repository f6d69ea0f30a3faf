"""Where was this patch cut? Origins that were lost, found again in a volume or scene."""
