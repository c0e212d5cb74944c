"""DICOM in and out over DIMSE: an asyncio upper layer with echo, store, find, move and get."""
