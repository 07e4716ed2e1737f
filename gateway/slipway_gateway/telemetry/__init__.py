"""What is told of the gateway to those who watch it: metrics and traces."""
