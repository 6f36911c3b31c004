"""Tests of the methods of quantisation."""
