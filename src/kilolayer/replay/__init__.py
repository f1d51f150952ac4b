"""The ring buffer, hindsight goals drawn from it, and dataset files. Pure functions on arrays."""
