"""Finding patients, studies, series and instances by attribute matching (PS3.4 C.2.2.2)."""
