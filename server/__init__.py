"""The composition root: processes, command line, migrations, demonstration data."""
