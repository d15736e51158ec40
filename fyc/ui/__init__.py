"""What people see: events, progress, tables, and how an error is printed. Imports nothing heavy."""
