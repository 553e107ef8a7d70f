"""The version of this package, importable from every floor."""

__version__ = "0.1.0"
