"""What an edit did to the images, measured with a segmenter and against random units."""
