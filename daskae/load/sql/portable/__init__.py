"""Any database that SQLAlchemy has a dialect for, by nothing but what all of them know."""
