"""From pixels to image features: preprocessing, the default vision tower, encoders and regions."""
