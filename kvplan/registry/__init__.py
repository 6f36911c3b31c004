"""Models and GPUs by name, and YAML files read strictly."""
