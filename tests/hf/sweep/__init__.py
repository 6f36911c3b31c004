"""Programs that hold the importer against transformers itself; no tests, run by hand."""
