"""A simple foot for partfit: a model, stickers as landmarks, and what finds them in a photograph."""
