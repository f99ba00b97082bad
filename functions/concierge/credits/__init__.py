"""Credits as people see them: the welcome bonus and the balance mirror."""
