"""More load than the service can carry, and one tenant who asks for more than his share."""
