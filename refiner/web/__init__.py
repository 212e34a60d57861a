"""The server behind `refiner web`: browsers and programs send a photo and a mask and get the filled photo back."""
