"""Tests of kvplan/engines."""
