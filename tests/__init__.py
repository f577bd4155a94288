"""Tests, in the shape of the sources."""
