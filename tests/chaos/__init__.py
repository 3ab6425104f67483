"""Chaos: everything that can happen to a gateway, at random and together, on the real kernel.

    make chaos SECONDS=600 SEED=7        or ROUNDS=200

A round is a burst of actions (actions.py) upon a gateway with three uplinks (site.py), and then
a pause, in which checks.py verifies the result:

    the kernel       holds what a clean start would make of this configuration and this world
    foreign objects  are untouched
    mproutd status   exits with 0, or names exactly why not
    the connections  live, and every byte came back as it was sent
    nothing          of ours is left behind: no route, no rule, no endpoint, no file

One uplink, the anchor, keeps its device, address and route, so that there is a working path at
all times; from time to time another one is it.  No connection may be lost then.

The seed decides what is done and in which order; when the kernel and the daemon get to it does
not repeat.  What a run found is therefore kept as a small test of its own, not as a seed.
"""
