"""vLLM: its pages, what it takes before the first cache, what it prints, and its command line."""
