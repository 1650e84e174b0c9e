"""Sign: the parameter document, its constraints and the signed repository.

`document` says what is published, `constraints` what an update may not do, `repository` signs and publishes,
`client` verifies, `tables` shows. What a protocol takes over is encoded by one module per protocol and handed
to `repository.publish` as attachments, so that it is signed together with the document it was made from.
"""
