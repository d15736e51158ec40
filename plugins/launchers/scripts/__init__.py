"""Training scripts that launchers write into a plan, as they are."""
