"""Reading stored instances, frames and metadata back, byte for byte."""
