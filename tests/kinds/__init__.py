"""Tests of kvplan/kinds."""
