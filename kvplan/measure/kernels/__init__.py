"""Attention of one new token over a cache: in plain torch, by libraries, and our own in Triton."""
