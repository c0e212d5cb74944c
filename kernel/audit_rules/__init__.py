"""Abnormal use of data: rules as data, evaluated over the sealed audit."""
