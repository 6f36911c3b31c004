"""Tests of kvplan/render: what is drawn is parsed again with a parser of its medium."""
