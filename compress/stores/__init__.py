"""Stores: run directories behind a URL. Enters: object stores, leases on what they hold, and their local mirrors."""
