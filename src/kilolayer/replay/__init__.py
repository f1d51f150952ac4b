"""The ring buffer, hindsight goals sampled from it, and dataset files."""
