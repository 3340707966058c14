"""From a request for a meta-training job to the recipe that runs: pure, and without torch."""
