"""Where CA keys live: sealed in the database, or in a home outside it."""
