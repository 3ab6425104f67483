"""Whether the line behind an uplink works: imported only where an uplink asks for checks."""
