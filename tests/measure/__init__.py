"""Tests of ``kvplan.measure``."""
