"""Brings what is in line with what is wanted, one object at a time: no event, no memory, only what is read afresh."""
