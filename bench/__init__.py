"""The benchmark: mproutd beside what people use instead, in the same run (`make bench`)."""
