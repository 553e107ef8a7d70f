"""Measurements behind `fanin bench`: functions that return rows, no printing."""
