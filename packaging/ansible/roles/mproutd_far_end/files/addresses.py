"""Checks the addresses in the variables of the role, given as JSON; prints what is wrong."""

import ipaddress
import json
import sys

for variable, values in json.loads(sys.argv[1]).items():
    networks = []
    for value in values:
        try:
            network = ipaddress.ip_network(value)
        except ValueError as error:
            sys.exit(f"{variable}: {error}")
        if variable[-1] in "46" and str(network.version) != variable[-1]:
            sys.exit(f"{variable}: {value} is not an IPv{variable[-1]} address")
        for other in networks:
            if network.version == other.version and network.overlaps(other):
                sys.exit(f"{variable}: {value} overlaps {other}: name only one of them")
        networks.append(network)
