"""Tests of ``kvplan.views``."""
