"""The HTTP front end: it validates, authorises, records in Postgres, rings, and waits for workers' replies."""
