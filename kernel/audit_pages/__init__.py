"""The audit for those who may read it: pages, export, and FHIR R4 AuditEvent."""
