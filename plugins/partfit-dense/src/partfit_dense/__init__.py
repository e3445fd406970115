"""Dense landmarks of face and ears with scale and visibility, learned from renders alone."""
