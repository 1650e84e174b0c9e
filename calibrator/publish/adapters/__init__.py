"""What each protocol takes over: one module per protocol, from the document's ppm to its own units and back.

Every module has the same four parts, held together by `base.Adapter`: a *state* (what the target holds now,
read from a JSON file), *actions* (single changes in the target's own units), ``propose`` (from the terms of
a document to actions, rounded once, to the safe side) and ``encode`` / ``decode`` (actions to the bytes that
are signed, and back). Whether the target would accept them is decided in `calibrator.publish.constraints`.
"""
