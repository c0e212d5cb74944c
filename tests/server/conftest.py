"""What tests of the server borrow."""

from tests.archive.conftest import archive

__all__ = ["archive"]
