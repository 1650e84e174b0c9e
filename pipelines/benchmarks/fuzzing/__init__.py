"""Random (state, update) pairs per protocol, and an independent oracle of each protocol's rules.

An oracle is written from the protocol's own code as a chain of plain conditions; it shares nothing with
`calibrator.publish.constraints` but the data classes that hold the values. `pairs` makes the values, half of
them at or one beside a bound.
"""
