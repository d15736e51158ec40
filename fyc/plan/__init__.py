"""Planning distributed training: what a configuration costs, which one to take, and the script that runs it."""
