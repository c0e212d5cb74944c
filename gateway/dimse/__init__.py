"""DIMSE messages (PS3.7): command sets, fragments and statuses."""
