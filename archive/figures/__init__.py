"""Figures about what is kept: how many studies and instances, by day, modality and institution."""
