"""Health checks: whether an uplink that is up carries traffic."""
