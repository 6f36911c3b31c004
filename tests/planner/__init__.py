"""Tests of kvplan/planner."""
