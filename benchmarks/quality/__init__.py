"""Does refinement help? Inpainters measured on pictures with known holes: `python -m benchmarks.quality`."""
