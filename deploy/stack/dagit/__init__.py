"""A client of Dagit's GraphQL, and what `make train` does with it."""
