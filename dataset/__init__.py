"""DICOM data as pure functions, without I/O: scanner, splice, JSON, character sets, pixels."""
