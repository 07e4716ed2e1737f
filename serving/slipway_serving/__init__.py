"""MLServer with one model class, and the storage initializer that downloads its artifact."""
