"""The page: a server for browsers and programs that paint a mask, and get the full-size photo back."""
