"""Cloud Functions: the process that runs them, the events that reach them, and the fronts people call them through."""
