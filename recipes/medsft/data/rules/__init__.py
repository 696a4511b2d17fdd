"""Rules that change text: cleaning, de-identification, signatures, platform names."""
