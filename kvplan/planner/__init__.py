"""How many GPUs, in which layout, for how long a context: one search for every command."""
