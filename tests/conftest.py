"""Makes the modules that lie beside this file importable in the tests of every room."""
