"""Search for the origin of patches, in volumes or scenes."""

from .located import Located as Located
