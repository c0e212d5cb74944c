"""Studies kept safely: journal, packs, index, query, retrieve, integrity.

Only this code touches stored objects.
"""
