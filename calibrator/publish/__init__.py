"""Sign: the parameter document, its constraints and the signed repository.

`document` says what is published, `constraints` what an update may not do, `repository` signs and publishes,
`rotation` changes keys, `approval` asks for the second one, `changes` and `tables` show what moves for whom.
What a protocol takes over is encoded by one module per protocol and handed to `repository.publish` as further
targets, so that it is signed together with the document it was made from.

`client` is the consumer's API: `anchor` once, then `verify` or `verify_all`, and `last_good` after a refusal.
"""
