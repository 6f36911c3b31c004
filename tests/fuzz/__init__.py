"""Hostile input for every command: seeded, structure-aware, and replayed by seed and number.

``python -m tests.fuzz --inputs 20000 --seed 1`` runs many, in processes whose memory is watched.
"""
