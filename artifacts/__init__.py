"""The contract between training and serving: version folders, images, and how they are read."""
