"""Image files, PIL images and arrays in and out; masks. What is no hole leaves as it came."""
