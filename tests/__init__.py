"""Tests mirror the packages: tests/unit/<package>/test_<module>.py."""
