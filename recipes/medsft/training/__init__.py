"""From a prepared split to a trained arm."""
