"""Deployments held against what is expected of them, and against a baseline."""
