"""`certctl demo`: a certificate's whole life on this machine, by subprocesses and HTTP only."""
