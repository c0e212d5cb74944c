"""Privacy: sensitive kinds of data, and how names, ID numbers and phones are masked."""
