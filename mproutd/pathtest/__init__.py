"""`mproutd test`: whether MPTCP gets through by an uplink."""
