"""Training LaMa generators, to be run as `python -m lama.training`."""
