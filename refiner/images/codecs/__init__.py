"""File formats: a module for each that needs code of its own, and the table with a record for every one."""
