"""How good a fill is, and pictures with holes to measure it on."""
