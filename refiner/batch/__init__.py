"""Folders of photos: the same work for each, on this machine or on a Ray cluster."""
