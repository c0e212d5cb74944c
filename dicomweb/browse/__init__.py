"""The study browser: pages on which a person finds studies and looks at their images.

Lists and facts come from the archive's catalogue within the asker's scope; pixels come from our
own DICOMweb routes, rendered on the server.
"""
