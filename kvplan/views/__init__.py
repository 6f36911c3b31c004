"""Results turned into reports: the JSON contract's keys and the words of the tables."""
