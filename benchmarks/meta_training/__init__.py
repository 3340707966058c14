"""Meta-training as a user meets it: everything over HTTP, from an uploaded data set to answers of its checkpoint."""
