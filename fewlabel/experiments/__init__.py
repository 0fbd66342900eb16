"""Experiments: several runs set beside each other."""
