"""The BentoML service: images over HTTP in, labels out."""
