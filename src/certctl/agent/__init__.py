"""The agent: holds the keys of one host, asks the control plane for work, deploys and reports."""
