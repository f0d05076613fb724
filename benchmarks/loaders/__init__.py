"""One table of customers into a database: by daskae, by others, and by the least that any could do."""
