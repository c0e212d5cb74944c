"""Words in the language of the reader: English msgids, Chinese translations."""
