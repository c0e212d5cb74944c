"""Demonstration studies that the machine draws itself: invented patients, no real person."""
