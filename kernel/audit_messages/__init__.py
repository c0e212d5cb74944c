"""Audit rows in the words of others: DICOM audit messages by syslog, FHIR AuditEvent."""
