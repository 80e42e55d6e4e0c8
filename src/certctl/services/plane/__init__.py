"""The revocation plane: OCSP, CRLs and CA certificates from memory, with or without the database.

`answers` holds the serials of one CA with their signed answers, `plane` keeps them true.
"""
