"""Two gateways with keepalived and conntrackd: make pair."""
