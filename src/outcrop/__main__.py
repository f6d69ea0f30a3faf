"""`python -m outcrop`: the command line without its script."""

from outcrop.cli import main

raise SystemExit(main())
