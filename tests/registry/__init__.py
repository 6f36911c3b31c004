"""Tests of kvplan/registry."""
