"""`mproutd test`: does MPTCP survive on a path, and if not, who loses it?"""
