"""`python -m fyc` is the same as `fyc`."""

from fyc.cli.main import main

main()
