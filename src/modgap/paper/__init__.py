"""What explains and reproduces the paper: its theory, its dynamics, its figures."""
