"""Tests of kvplan/cli."""
