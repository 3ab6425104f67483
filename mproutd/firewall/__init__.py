"""The nftables table that keeps a connection on its uplink."""
