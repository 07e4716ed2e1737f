"""Whether what is asked for still looks like what was learnt from."""
