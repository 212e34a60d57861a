"""Photos and masks: image files, PIL images and arrays in and out. Outside the hole a photo stays as it was."""
