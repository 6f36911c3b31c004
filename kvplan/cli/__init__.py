"""The command line: load, ask, render, exit."""
