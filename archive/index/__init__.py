"""The index: a row per patient, study, series and instance, in step with the stored bytes."""
