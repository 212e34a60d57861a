"""Measures of how good a fill is, and pictures with holes to measure on."""
