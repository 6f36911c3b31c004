"""Tests of kvplan/hf."""
