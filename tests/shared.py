"""Where the real data lies beside the project, and the mark that skips tests without it."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("OUTCROP_SHARED", Path(__file__).parents[1].parent / "shared")) / "data"

needs_shared = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
