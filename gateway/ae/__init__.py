"""Application Entities: the DICOM nodes that are known by title, address and owner."""
