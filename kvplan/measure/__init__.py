"""Proof on a real device: caches are allocated, written, searched for their limit and read.

What is asked, what is expected and what came of it is plain arithmetic and stands here; ``device``
and ``kernels`` alone import torch.
"""
