"""From labelled images to what is said about them in both stages."""
