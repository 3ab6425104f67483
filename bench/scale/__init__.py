"""What size costs: many uplinks, addresses, MPTCP connections and routes (`make bench-scale`)."""
