"""Files in the formats in which the field's models are published, with made-up content."""
