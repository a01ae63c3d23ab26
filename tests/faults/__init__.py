"""Damage to every artifact of every stage, from a seed: what the programs make of it. ``python -m tests.faults --help``."""
