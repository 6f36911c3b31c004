"""How servers really lay out, page and report caches: a file or folder an engine."""
