"""The BentoML service: images over HTTP in, labels out."""

VERSION = "0.1.0"  # of the release; a Bento has the sources, but not the installed metadata
