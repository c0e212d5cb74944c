"""DICOM data as pure functions: tag scanner, splice, character sets, DICOM JSON, pixel maths. No I/O."""
