"""One file per noun. A route reads the request, calls what does the work, and writes the answer."""
