"""DICOMweb over the archive (QIDO-RS, WADO-RS, STOW-RS), rendered frames, and the study browser."""
