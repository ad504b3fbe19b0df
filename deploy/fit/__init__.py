"""What to compress so that a model fits: see `deploy.fit.fit`."""
