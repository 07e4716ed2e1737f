"""MLServer with one model class, and the storage initializer that fetches what it serves."""
