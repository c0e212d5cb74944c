"""The DICOM upper layer (PS3.8): PDUs, the state machine, negotiation and one connection."""
