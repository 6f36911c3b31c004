"""Tests of kvplan/checks."""
