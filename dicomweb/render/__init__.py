"""Rendered frames and thumbnails as JPEG or PNG (PS3.18 10.4.1.1.3, 8.3.5)."""
