"""The command line. Enters: commands, their options, and what they print; nothing imports it."""
