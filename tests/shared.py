"""Where the shared test data lie, and the mark for tests that need them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("OUTCROP_SHARED", Path(__file__).parents[1].parent / "shared")) / "data"

needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason=f"no shared data in {DATA}")
