"""Selection. Enters: the choice of one network among all finished runs, under limits."""
