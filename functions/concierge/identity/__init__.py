"""Who is calling: ID tokens and roles."""
